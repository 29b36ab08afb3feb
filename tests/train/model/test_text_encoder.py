"""The baselines that shorten a page's text: by definition, and as a model that learns."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.train.model.small_model import text_only, without_zeros
from train.model.optical import OpticalModel, build
from train.model.text_encoder import pooled, truncated

pytestmark = pytest.mark.usefixtures("one_process")
KINDS = ("mean_pool", "convolution", "truncation")


@pytest.mark.parametrize("count", [1, 3, 4, 16])
def test_pooling_is_torchs_adaptive_average_of_each_text(count: int) -> None:
    torch.manual_seed(0)
    x, lengths = torch.randn(5, 23, 6), torch.tensor([23, 1, 7, 16, 0])
    found = pooled(x, lengths, count)
    for row, length in enumerate(lengths[:-1]):
        expected = F.adaptive_avg_pool1d(x[row, :length].T, count).T
        torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-6)
    assert not found[-1].any()


def test_truncation_keeps_the_beginning() -> None:
    x = torch.randn(2, 5, 3)
    assert torch.equal(truncated(x, torch.tensor([5, 5]), 4), x[:, :4])
    assert torch.equal(truncated(x, torch.tensor([5, 5]), 7)[:, :5], x) and not truncated(x, x, 7)[:, 5:].any()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, small, image_token) -> OpticalModel:
    small.encoder = replace(small.encoder, kind=request.param)
    small.glyph_heads = False
    return without_zeros(build(small, image_token, seed=3))


@pytest.fixture
def texts(pages):
    """The batch with what its pages say: 20 and 40 tokens, for 16 vectors each."""
    pages.texts = torch.randint(0, 99, (2, 40))
    pages.texts[0, 20:] = -1
    return pages


def test_a_row_depends_on_its_own_text_and_on_no_picture(model, texts) -> None:
    before = model(texts).logits.detach()
    texts.views[0][:] = 255 - texts.views[0]
    assert torch.equal(before, model(texts).logits)
    texts.texts[1, :8] = (texts.texts[1, :8] + 1) % 99
    after = model(texts).logits.detach()
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1, 22:], after[1, 22:])


def test_what_stands_beyond_a_text_changes_nothing(model, texts) -> None:
    before = model(texts).logits.detach()
    texts.texts = F.pad(texts.texts, (0, 9), value=-1)
    torch.testing.assert_close(before, model(texts).logits)


def test_every_parameter_gets_a_gradient_with_and_without_pages(model, texts) -> None:
    empty = text_only(texts)
    empty.texts = torch.full((1, 1), -1)
    for batch in (texts, empty):
        model.zero_grad(set_to_none=True)
        model(batch).logits.float().logsumexp(-1).mean().backward()
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_truncated_texts_are_their_first_embeddings(small, image_token, texts) -> None:
    small.encoder, small.glyph_heads = replace(small.encoder, kind="truncation"), False
    model = build(small, image_token, seed=3)
    first = texts.texts[:, :16]
    expected = model.decoder.embedding(input_ids=first, position_ids=first).transpose(0, 1)
    assert torch.equal(model.encode(texts).tokens[0], expected)
