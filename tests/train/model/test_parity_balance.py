"""The load-balancing loss that a model trains on, against DeepSeek's formula written out."""

import pytest
import torch

from tests.train.model.small_model import IMAGE_TOKEN, noise_pages, small_model, without_zeros
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


def test_the_loss_adds_its_gradient_of_every_layer_with_padding_masked() -> None:
    """With a zero cross-entropy, what reaches the routers' weights is the balance loss alone."""
    model = small_model()
    optical = without_zeros(build(model, IMAGE_TOKEN, seed=5))
    batch, heard = noise_pages(), {}
    routers = {name: module for name, module in optical.named_modules() if name.endswith(".router")}
    assert len(routers) == model.decoder.layers - model.decoder.dense_layers
    for name, module in routers.items():
        module.register_forward_pre_hook(lambda _, inputs, name=name: heard.__setitem__(name, inputs[0]))
    (optical(batch).logits * 0).sum().backward()

    decoder = model.decoder
    expected = torch.zeros(())
    copies = {name: module.weight.detach().clone().requires_grad_() for name, module in routers.items()}
    for name, hidden_LBD in heard.items():
        last = name == max(heard)
        scores = (hidden_LBD if last else hidden_LBD.detach()).transpose(0, 1) @ copies[name].t()
        expected = expected + decoder.aux_loss * balance(
            scores.softmax(-1), batch.padding, decoder.experts_per_token
        )
    del last
    wanted = torch.autograd.grad(expected, [copies[max(copies)]])[0]
    found = routers[max(routers)].weight.grad
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
