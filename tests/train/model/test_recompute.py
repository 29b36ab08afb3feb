"""Activations computed again in backward: the same losses and gradients, and less kept."""

import pytest
import torch

from tests.train.model.small_model import objective, without_zeros
from train.model.optical import OpticalModel, build

pytestmark = pytest.mark.usefixtures("one_process")

FROZEN = {
    "nothing": (),
    "windowed branch": ("encoder.window", "encoder.compressor"),
    "what comes before the blocks": (
        "encoder.window.patch_embed",
        "encoder.window.pos_embed",
        "encoder.global.pre_norm",
        "encoder.global.class_embedding",
        "encoder.global.position_embedding",
    ),
    "all before the decoder's layers": ("encoder", "decoder.embedding"),
    "all before the second layer": ("encoder", "decoder.embedding", "decoder.decoder.layers.0"),
}


def trained(
    small, image_token: int, pages, recompute: str, frozen: tuple[str, ...]
) -> tuple[OpticalModel, dict]:
    """The model, and its loss, logits and gradients by name."""
    model = without_zeros(build(small, image_token, recompute=recompute, seed=3))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    output = model(pages, with_glyphs=True)
    loss = objective(output)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return model, {"loss": loss.detach(), "logits": output.logits.detach(), **found}


@pytest.mark.parametrize("frozen", FROZEN)
@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_loss_and_gradients_are_the_same(small, image_token, pages, recompute: str, frozen: str) -> None:
    """Bit-equal, but for one thing: where the windowed branch learns, torch's attention takes another kernel without
    gradients (the first pass of "full") than with them. The balance loss of the experts is in the gradients, too:
    twice would show.
    """
    close = recompute == "full" and frozen in ("nothing", "what comes before the blocks")
    _, expected = trained(small, image_token, pages, "none", FROZEN[frozen])
    _, found = trained(small, image_token, pages, recompute, FROZEN[frozen])
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert value is not None and found[name] is not None, f"{name} has no gradient"
        if close:
            torch.testing.assert_close(
                found[name], value, rtol=0, atol=1e-6 * float(value.abs().max()) + 1e-9
            )
        else:
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize(("recompute", "times"), [("none", (1, 1)), ("selective", (1, 2)), ("full", (2, 2))])
def test_what_is_computed_twice(small, image_token, pages, recompute: str, times: tuple[int, int]) -> None:
    """(attention, feed-forward) of encoder blocks and decoder layers."""
    model = build(small, image_token, recompute=recompute)
    count: dict[str, int] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: count.update({name: count.get(name, 0) + 1}))
    objective(model(pages)).backward()
    attention = {"encoder.window.blocks.1.attn", "encoder.global.layers.0.attn"}
    attention |= {f"decoder.decoder.layers.{layer}.self_attention" for layer in range(3)}
    forward = {
        "encoder.window.blocks.1.lin1",
        "encoder.global.layers.0.fc1",
        "decoder.decoder.layers.0.mlp.linear_fc1",
    }
    forward |= {f"decoder.decoder.layers.{layer}.mlp.experts" for layer in (1, 2)}
    assert {count[name] for name in attention} == {times[0]}
    assert {count[name] for name in forward} == {times[1]}


# Bytes of the same batch where activation functions and attention keep all that torch's own do: even "none" keeps less.
ALL_KEPT = 6_619_464


def test_less_is_kept_the_more_is_computed_again(small, image_token, pages) -> None:
    def kept(recompute: str) -> int:
        """Bytes that autograd holds on to between forward and backward, weights left out."""
        model = build(small, image_token, recompute=recompute)
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = model(pages)
        del output
        return sum(sizes.values())

    none, selective, full = (kept(recompute) for recompute in ("none", "selective", "full"))
    assert full < 0.5 * selective < 0.4 * ALL_KEPT
    assert selective < none < ALL_KEPT


def test_evaluation_computes_nothing_twice(small, image_token, pages) -> None:
    model = build(small, image_token, recompute="full").eval()
    count = []
    model.encoder.window.blocks[0].register_forward_hook(lambda *_: count.append(1))
    with torch.no_grad():
        model(pages)
    assert len(count) == 1
