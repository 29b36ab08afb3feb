"""Masks hide the weights that torch's and torchao's pruning would, and what they hide neither works nor learns."""

import pytest
import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.utils.prune import l1_unstructured

from parallel.layers import Experts, Linear, fold, take_off, transforms_in
from tests.train.model.small_model import noise_pages, without_zeros
from train.config import Config, PruneConfig, QuantizeConfig
from train.transform.attach import attach
from train.transform.prune import Mask, highest, masks_in

torchao = pytest.importorskip("torchao.sparsity", reason="torchao is absent: install the extra `quantize`")
pytestmark = pytest.mark.usefixtures("one_process")
INPUTS, OUTPUTS = 48, 16


def shape() -> TransformerConfig:
    made = TransformerConfig(num_layers=1, hidden_size=INPUTS, num_attention_heads=2)
    made.moe_ffn_hidden_size = OUTPUTS
    return made


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def masked(sparsity: float = 0.5, pattern: str = "free") -> tuple[Linear, Mask]:
    layer = Linear(shape(), INPUTS, OUTPUTS)
    with torch.no_grad():
        layer.weight.copy_(drawn(OUTPUTS, INPUTS, seed=1))
    (site,) = layer.sites()
    mask = Mask(site, sparsity, pattern)
    site.attach("mask", mask)
    return layer, mask


def batches(count: int = 3) -> list[torch.Tensor]:
    """With inputs of very different sizes."""
    return [drawn(4, 5, INPUTS, seed=seed) * torch.linspace(0.05, 3, INPUTS) for seed in range(count)]


def kept_by_torchao(
    weight: torch.Tensor, rows: list[torch.Tensor], sparsity: float, block: int | None
) -> torch.Tensor:
    """torchao's Wanda looks for the lowest in a whole layer: a layer of one output has the paper's scores, row by row."""
    found = []
    for row in weight:
        model = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], 1, bias=False))
        model[0].weight.data = row[None].clone()
        sparsifier = torchao.WandaSparsifier(sparsity, block)
        sparsifier.prepare(model, config=[{"tensor_fqn": "0.weight"}])
        for x in rows:
            model(x)
        model[0].activation_post_process.norm.sqrt_()  # torchao takes the squared norm for the paper's norm
        sparsifier.step()
        sparsifier.squash_mask()
        found.append(model[0].weight.detach()[0] != 0)
    return torch.stack(found)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_magnitude_hides_what_torch_prunes_in_each_row(sparsity):
    layer, mask = masked(sparsity)
    mask.choose()
    for number, row in enumerate(layer.weight.detach()):
        plain = torch.nn.Linear(INPUTS, 1, bias=False)
        plain.weight.data = row[None].clone()
        l1_unstructured(plain, "weight", sparsity)
        assert torch.equal(layer.used()[number], plain.weight[0])


@pytest.mark.parametrize(("pattern", "block"), [("free", None), ("2:4", 4)])
def test_wanda_hides_what_torchao_does(pattern, block):
    layer, mask = masked(0.5, pattern)
    mask.collect()
    for x in batches():
        layer(x)
    mask.settle()
    weight = layer.weight.detach()
    assert torch.equal(mask.kept, kept_by_torchao(weight, batches(), 0.5, block))
    assert not torch.equal(mask.kept, highest(weight.abs(), 0.5, pattern)), "inputs have a say"
    quarters = mask.kept.unflatten(-1, (-1, 4)).sum(-1)
    assert (quarters == 2).all() == (pattern == "2:4")


def test_an_experts_mask_is_of_the_rows_that_came_to_it():
    counts, x, weights = torch.tensor([6, 9]), batches(1)[0].flatten(0, 1)[:15], drawn(15, seed=3).abs()
    experts = Experts(2, shape(), pg_collection=ProcessGroupCollection.use_mpu_process_groups())
    with torch.no_grad():
        for site in experts.sites():
            site.weight.copy_(drawn(*site.weight.shape, seed=len(site.parameter)))
    before = experts(x, counts, weights)[0]
    for site in experts.sites():
        site.attach("mask", Mask(site, 0.5))
    for mask in masks_in(experts):
        mask.collect()
    torch.testing.assert_close(experts(x, counts, weights)[0], before, rtol=1e-5, atol=1e-5)
    for mask in masks_in(experts):
        mask.settle()
    for number, (rows, part) in enumerate(zip(x.split([6, 9]), weights.split([6, 9]))):
        gate, up = (rows @ experts.fc1[number].T).chunk(2, -1)
        inner = torch.nn.functional.silu(gate) * up * part[:, None]
        for name, multiplied in (("fc1", rows), ("fc2", inner)):
            expected = kept_by_torchao(
                getattr(experts, name)[number].detach(), [multiplied.detach()], 0.5, None
            )
            assert torch.equal(experts.chain(name)["mask"].kept[number], expected), (name, number)


def test_what_is_hidden_gets_no_gradient_and_stays_zero_where_it_is_used():
    layer, mask = masked()
    mask.choose()
    plain = torch.nn.Linear(INPUTS, OUTPUTS)
    plain.load_state_dict({"weight": layer.used().detach(), "bias": layer.bias.detach()})
    optimizers = [torch.optim.AdamW(part.parameters(), lr=1e-2, weight_decay=0.1) for part in (layer, plain)]
    hidden = ~mask.kept
    for x in batches(4):
        for part, optimizer in zip((layer, plain), optimizers):
            optimizer.zero_grad()
            part(x).square().mean().backward()
            if part is plain:
                plain.weight.grad[hidden] = 0.0
            optimizer.step()
        assert not layer.weight.grad[hidden].any() and layer.weight.grad[mask.kept].all()
        assert not layer.used()[hidden].any()
        assert torch.equal(layer.used(), plain.weight * mask.kept)
    fold(layer)
    assert torch.equal(layer.weight == 0, hidden)


def test_a_model_keeps_its_zeros_through_rounding_and_its_masks_through_a_state_dict(small_optical):
    config, model = small_optical
    without_zeros(model).eval()
    settings = Config(model=config, prune=PruneConfig("magnitude"), quantize=QuantizeConfig(bits=4, group=16))
    attach(settings, model)
    masks = masks_in(model)
    assert len(masks) > 10 and 2 * len(masks) == len(transforms_in(model))
    zeros = {
        id(mask): (mask.site.matrix(mask.site.owner.used(mask.site.parameter)) == 0)[~mask.kept].all()
        for mask in masks
    }
    assert all(zeros.values())
    state, kept = model.state_dict(), [mask.kept.clone() for mask in masks]
    stored = {name: value.clone() for name, value in state.items() if value is not None}
    with torch.no_grad():
        expected = model(noise_pages()).logits
        for mask in masks:
            mask.kept.logical_not_()
        assert not torch.equal(model(noise_pages()).logits, expected)
        model.load_state_dict(stored, strict=False)
        assert torch.equal(model(noise_pages()).logits, expected)
    assert all(torch.equal(mask.kept, before) for mask, before in zip(masks, kept, strict=True))
    take_off(model)
