"""The load-balancing loss that a model trains on, against DeepSeek's formula written out."""

import pytest
import torch

from tests.train.model.small_model import IMAGE_TOKEN, noise_pages, small_model, without_zeros
from train.config import ModelConfig
from train.model.optical import build

pytestmark = pytest.mark.usefixtures("one_process")


def balance(scores: torch.Tensor, padding: torch.Tensor, topk: int) -> torch.Tensor:
    """Mean over rows of sum over experts e of ce[e] * mean over tokens of score[t, e], with ce[e] = count(e) / (T k / E);
    a row's padding is left out of T, of the counts and of the means. scores: [B, L, E]. Source: DeepSeek-V2's MoEGate with
    seq_aux, which itself counts padding.
    """
    rows = []
    for row, absent in zip(scores, padding):
        valid = row[~absent]
        tokens, experts = valid.shape
        counts = torch.zeros(experts)
        for token in valid:
            for expert in token.detach().argsort(descending=True)[:topk]:
                counts[expert] += 1
        rows.append((counts / (tokens * topk / experts) * valid.mean(0)).sum())
    return torch.stack(rows).mean()


def gradients(optical: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Those of all parameters that have one, which are then without."""
    found = {
        name: parameter.grad.clone()
        for name, parameter in optical.named_parameters()
        if parameter.grad is not None
    }
    optical.zero_grad()
    return found


def of_formula(
    optical: torch.nn.Module, model: ModelConfig, padding: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The gradients of the formula, from what the routers hear in evaluation mode, where the model adds nothing itself."""
    heard = []
    routers = [module for name, module in optical.named_modules() if name.endswith(".router")]
    assert len(routers) == model.decoder.layers - model.decoder.dense_layers
    hooks = [
        router.register_forward_pre_hook(lambda module, inputs: heard.append((module, inputs[0])))
        for router in routers
    ]
    optical.eval()(noise_pages())
    for hook in hooks:
        hook.remove()
    total = torch.zeros(())
    for router, hidden_LBD in heard:
        scores = (hidden_LBD.transpose(0, 1) @ router.weight.t()).softmax(-1)
        total = total + model.decoder.aux_loss * balance(scores, padding, model.decoder.experts_per_token)
    total.backward()
    return gradients(optical)


def test_a_step_adds_the_gradient_of_the_formula_with_padding_masked() -> None:
    """Where cross-entropy is zero, what reaches the parameters, of all layers, is the balance loss alone."""
    model = small_model()
    optical, batch = without_zeros(build(model, IMAGE_TOKEN, seed=5)), noise_pages()
    (optical.train()(batch).logits * 0).sum().backward()
    found = gradients(optical)
    wanted = of_formula(optical, model, batch.padding)
    assert sum(float(gradient.abs().max()) > 1e-6 for gradient in wanted.values()) > 40
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max() + 1e-10, name
    unmasked = of_formula(optical, model, torch.zeros_like(batch.padding))
    router = "decoder.decoder.layers.1.mlp.router.weight"
    assert (unmasked[router] - wanted[router]).abs().max() > 1e-2 * wanted[router].abs().max()
