"""The joined model: vision tokens among text, gradients everywhere, decoding with a cache, shards for
checkpoints.
"""

import pytest
import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

from tests.train.model.small_model import text_only
from train.model.optical import OpticalModel, build

pytestmark = pytest.mark.usefixtures("one_process")


@pytest.fixture
def model(small, image_token) -> OpticalModel:
    """A model whose residual projections are not zero, so that every part has a say in the output."""
    model = build(small, image_token, seed=3)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.1)
    return model


def test_the_text_depends_on_its_own_page_and_on_no_other(model, pages) -> None:
    before = model(pages).logits.detach()
    pages.views[0][1] = 255 - pages.views[0][1]
    after = model(pages).logits.detach()
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1, 22:], after[1, 22:])
    torch.testing.assert_close(before[1, :1], after[1, :1])  # the page begins at position 1


@pytest.mark.parametrize("kind", ["pages", "text only"])
def test_every_parameter_gets_a_gradient(model, pages, kind: str) -> None:
    batch = pages if kind == "pages" else text_only(pages)
    output = model(batch, with_glyphs=True)
    loss = output.logits.float().logsumexp(-1).mean() + sum(
        glyphs.float().logsumexp(-1).mean() * float(kind == "pages")
        for glyphs in (*output.patch_glyphs, *output.token_glyphs)
    )
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    encoder = [gradient.abs().sum() for name, gradient in gradients.items() if name.startswith("encoder.")]
    assert all(total > 0 for total in encoder) if kind == "pages" else not any(encoder)


def test_a_count_of_image_tokens_that_does_not_fit_the_page_is_refused(model, pages) -> None:
    pages.tokens[0, 25] = model.image_token
    with pytest.raises(RuntimeError, match="<image> tokens and vision tokens differ"):
        model(pages)


def test_padding_changes_nothing_before_it(model, pages) -> None:
    model.eval()
    before = model(pages).logits
    pages.tokens[1, 26:] = 7
    torch.testing.assert_close(before[:, :26], model(pages).logits[:, :26])


def test_glyph_logits_stand_where_their_cell_is_on_the_page(model, pages) -> None:
    """The logits of one patch (token) fill the square of cells it covers, in reading order."""
    heads = model.glyph_heads
    vision = model.encode(pages)
    (patch,), (token,) = heads(vision)
    assert patch.shape == token.shape == (2, 32, 32, 12)
    row, column = 5, 11
    expected = heads.patch(vision.patches[0][1, row, column]).view(2, 2, 12)
    torch.testing.assert_close(patch[1, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2], expected)
    row, column = 2, 3
    expected = heads.token(vision.tokens[0][1, 4 * row + column]).view(8, 8, 12)
    torch.testing.assert_close(token[1, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8], expected)


def test_glyph_heads_are_evaluated_only_when_asked(model, pages) -> None:
    assert model(pages).patch_glyphs is None
    assert model(pages, with_glyphs=True).token_glyphs is not None


def test_shards_describe_every_parameter(model) -> None:
    """Checkpoints and first weights both go through these shards: one that is missing would be lost
    silently.
    """
    described = {}
    for entry in model.sharded_state_dict().values():
        parts = entry.build() if isinstance(entry, ShardedTensorFactory) else entry
        for shard in parts if isinstance(parts, list) else [parts]:
            if isinstance(shard, ShardedTensor):
                place = (shard.key, shard.global_offset)
                assert place not in described, f"{place} twice"
                described[place] = (shard.data.untyped_storage().data_ptr(), shard.data.numel())
    wanted = {parameter.untyped_storage().data_ptr(): parameter.numel() for parameter in model.parameters()}
    found = dict.fromkeys(wanted, 0)
    for pointer, count in described.values():
        found[pointer] += count
    assert found == wanted


def test_bf16_weights_give_nearly_the_fp32_logits(small, image_token, pages) -> None:
    exact = build(small, image_token, seed=1)
    rounded = build(small, image_token, precision="bf16", seed=1)
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.bfloat16}
    a, b = exact(pages).logits, rounded(pages).logits
    assert (a - b.float()).abs().max() < 0.05 * a.abs().max()
