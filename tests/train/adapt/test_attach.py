"""What a tuner adds, where, with which first values; and that a bias learns beside a frozen matrix."""

import pytest
import torch

from parallel.layers import ColumnLinear, Linear, RowLinear
from tests.train.model.small_model import (
    IMAGE_TOKEN,
    noise_pages,
    objective,
    small_model,
    text_only,
    without_zeros,
)
from train.adapt.attach import add
from train.config import Config, TuneConfig
from train.model.optical import OpticalModel, build
from train.objective import NextToken
from train.parameters import freeze_idle_heads

pytestmark = pytest.mark.usefixtures("one_process")
KINDS = ("adapter", "prefix", "p_tuning_v2", "prompt", "p_tuning")


def tuned(seed: int = 0, **tune: object) -> OpticalModel:
    """A small mixture of experts in which every part has a say, and what `tune` adds."""
    model = build(small_model(), IMAGE_TOKEN, seed=3)
    assert isinstance(model, OpticalModel)
    without_zeros(model)
    add(Config(model=small_model(), tune=TuneConfig(width=8, tokens=4, **tune), seed=seed), model)  # type: ignore[arg-type]
    return model


def added(model: OpticalModel) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def test_adapters_are_the_identity_at_first_to_the_last_bit() -> None:
    base, model = tuned(), tuned(kind="adapter")
    pages = noise_pages()
    assert torch.equal(base(pages).logits, model(pages).logits)
    objective(model(pages)).backward()
    learning = {name for name, value in added(model).items() if value.grad is not None and value.grad.any()}
    assert learning == {name for name in added(model) if ".up." in name}, (
        "what is behind zeros follows a step later"
    )


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (["attention", "dense", "shared_experts", "experts"], "012 012"),
        (["attention"], "012 "),
        (["dense"], " 0"),
        (["experts"], " 12"),
        (["decoder.decoder.layers.1"], "1 1"),
        (["linear_proj", "*.2.mlp.shared_experts.linear_fc2"], "012 2"),
    ],
)
def test_adapters_stand_behind_the_parts_that_hold_a_target(targets: list[str], found: str) -> None:
    model = tuned(kind="adapter", targets=targets)
    behind = [
        "".join(str(number) for number, layer in enumerate(model.decoder.layers) if hasattr(layer, name))
        for name in ("attention_adapter", "feed_adapter")
    ]
    assert " ".join(behind) == found


@pytest.mark.parametrize("kind", KINDS)
def test_first_values_are_of_the_seed_and_the_name(kind: str) -> None:
    one, same, other = (added(tuned(seed, kind=kind)) for seed in (1, 1, 2))
    assert one.keys() == same.keys() == other.keys()
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    drawn = {name: value for name, value in one.items() if value.any()}
    assert drawn and not any(torch.equal(value, other[name]) for name, value in drawn.items())
    values = list(drawn.values())
    assert not any(
        one.shape == other.shape and torch.equal(one, other)
        for i, one in enumerate(values)
        for other in values[:i]
    )


@pytest.mark.parametrize("kind", [*KINDS, "selective"])
def test_every_parameter_that_trains_gets_a_gradient_with_pages_and_without(kind: str) -> None:
    model = tuned(kind=kind, train=["*norm*"] if kind == "selective" else [])
    freeze_idle_heads(model, NextToken())
    for pages in (noise_pages(), text_only(noise_pages())):
        model.zero_grad()
        model(pages).logits.square().mean().backward()
        assert all(value.grad is not None for value in added(model).values())


@pytest.mark.parametrize("layer", [ColumnLinear, RowLinear, Linear])
def test_a_bias_learns_beside_a_frozen_matrix(layer: type[torch.nn.Module]) -> None:
    """megatron-core's product with a frozen weight returns no gradient for its bias, and says nothing."""
    config = build(small_model(), IMAGE_TOKEN).config
    own = layer(config, 6, 4)
    x = torch.randn(3, 5, 6)
    with torch.no_grad():
        for value in own.parameters():
            value.copy_(torch.randn(value.shape))
    own.weight.requires_grad_(False)
    out = own(x)
    torch.testing.assert_close(out, torch.nn.functional.linear(x, own.weight, own.bias))
    (out * torch.arange(4.0)).sum().backward()
    torch.testing.assert_close(own.bias.grad, 15 * torch.arange(4.0))
    assert own.weight.grad is None
