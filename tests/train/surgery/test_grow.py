"""Growth leaves the function as it is; fp32, so that sums in another order differ by a few roundings."""

from dataclasses import replace

import pytest
import torch

from tests.train.model.small_model import small_model
from tests.train.surgery.small import apart, dense_model, outputs, random_weights
from train.config import ModelConfig
from train.surgery.config import SizesConfig, UpcycleConfig
from train.surgery.grow import Growth, grow
from train.surgery.upcycle import LOGITS, upcycle

pytestmark = pytest.mark.usefixtures("one_process")

ROUNDING = 5e-6  # of the largest output
SIZES = {
    "layers": 5, "width": 96, "heads": 6, "ffn": 130, "experts": 16, "expert_ffn": 40, "shared_experts": 3, "window_depth": 4,
    "window_heads": 3, "window_mlp": 90, "global_depth": 5, "global_heads": 6, "global_mlp": 100,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_a_larger_model_computes_the_same(name: str) -> None:
    model, weights = small_model(), random_weights(small_model())
    found, after = grow(weights, model, SizesConfig(**{name: SIZES[name]}), Growth())
    assert (
        getattr(after.encoder if "_" in name and hasattr(after.encoder, name) else after.decoder, name)
        == SIZES[name]
    )
    assert apart(outputs(model, weights), outputs(after, found)) < ROUNDING
    assert sum(value.numel() for value in found.values()) > sum(value.numel() for value in weights.values())


def test_a_model_larger_in_every_way_computes_the_same() -> None:
    model = small_model()
    weights = random_weights(model)
    found, after = grow(weights, model, SizesConfig(**SIZES), Growth())
    assert apart(outputs(model, weights), outputs(after, found)) < ROUNDING


def test_every_new_part_learns() -> None:
    """After growth, whatever was added gets a gradient, or what reads it does: nothing is dead."""
    from tests.train.model.small_model import IMAGE_TOKEN, noise_pages, objective
    from train.remake.weights import module_of

    model = small_model()
    found, after = grow(random_weights(model), model, SizesConfig(width=96), Growth())
    module = module_of(after, found, IMAGE_TOKEN)
    objective(module(noise_pages(), with_glyphs=True)).backward()
    new = module.decoder.layers[1].self_attention.linear_proj.weight.grad[64:]
    assert new.abs().sum(1).min() > 0, "a feature of the width that nothing writes yet gets a gradient"


def test_stacked_layers_are_the_old_ones_over_again() -> None:
    model = small_model()
    weights = random_weights(model)
    found, after = grow(weights, model, SizesConfig(layers=6, window_depth=5), Growth("stack"))
    for new, old in enumerate([0, 1, 2, 1, 2, 1]):
        key = "decoder.decoder.layers.{}.self_attention.linear_proj.weight"
        assert torch.equal(found[key.format(new)], weights[key.format(old)])
    assert after.encoder.global_layers == [1, 4]
    assert outputs(after, found)["logits"].isfinite().all()


def test_copies_are_parted_by_noise_alone() -> None:
    model = small_model()
    weights = random_weights(model)
    key = "decoder.decoder.layers.0.mlp.linear_fc1.weight"
    exact, _ = grow(weights, model, SizesConfig(ffn=192), Growth())
    gate = exact[key].chunk(2)[0]
    assert torch.equal(gate[:96], gate[96:])
    noisy, after = grow(weights, model, SizesConfig(ffn=192), Growth(noise=0.01))
    gate, old = noisy[key].chunk(2)[0], weights[key]
    assert torch.equal(gate[:96], old[:96])
    spread = (gate[96:] - old[:96]).std() / old.square().mean().sqrt()
    assert spread.item() == pytest.approx(0.01, rel=0.05)
    assert 1e-5 < apart(outputs(model, weights), outputs(after, noisy)) < 0.1


@pytest.mark.parametrize(
    "settings",
    [
        UpcycleConfig(experts=8),
        UpcycleConfig(experts=8, experts_per_token=4, expert_ffn=24),
        UpcycleConfig(experts=12, experts_per_token=3, expert_ffn=32, dense_layers=1),
    ],
)
def test_experts_compute_what_the_dense_layer_did(settings: UpcycleConfig) -> None:
    """As far as the router's first weights are from equal."""
    model = dense_model()
    weights = random_weights(model)
    found, after = upcycle(weights, model, settings, Growth())
    assert after.decoder.dense_layers == settings.dense_layers and after.decoder.shared_experts == 0
    assert apart(outputs(model, weights), outputs(after, found)) < 10 * LOGITS


def test_tokens_choose_different_experts_from_the_start() -> None:
    from tests.train.model.small_model import IMAGE_TOKEN, noise_pages
    from train.remake.weights import module_of

    model = dense_model()
    found, after = upcycle(
        random_weights(model), model, UpcycleConfig(experts=8, experts_per_token=4, expert_ffn=48), Growth()
    )
    chosen = []
    module = module_of(after, found, IMAGE_TOKEN)
    module.decoder.layers[1].mlp.router.register_forward_hook(lambda *call: chosen.append(call[2][1]))
    with torch.no_grad():
        module(noise_pages())
    assert chosen[0].sum(1).eq(4).all()
    pairs = chosen[0].unflatten(1, (4, 2))  # both parts of a feed-forward have one row of the router
    assert torch.equal(pairs[..., 0], pairs[..., 1])
    assert chosen[0].float().mean(0).std() < 0.4 and chosen[0].any(0).all()


def test_more_experts_of_experts_keep_the_function_by_choosing_more() -> None:
    model: ModelConfig = replace(small_model(), decoder=replace(small_model().decoder, experts_per_token=2))
    weights = random_weights(model)
    found, after = grow(weights, model, SizesConfig(experts=24), Growth())
    assert after.decoder.experts_per_token == 6
    assert apart(outputs(model, weights), outputs(after, found)) < ROUNDING
