"""Reading with a cache is what the training forward computes: after the prompt and at every later position."""

import pytest
import torch

from tests.train.generate.reading_model import TILED, as_trained, batch_of, reading_model
from train.generate.decoder import TextDecoder
from train.generate.decoding import embedded
from train.model.optical import OpticalModel

pytestmark = pytest.mark.usefixtures("one_process")

MODELS: dict[str, dict] = {
    "as ours": {},
    "dense layers only": {"dense_layers": 3},
    "no shared expert": {"shared_experts": 0},
    "tied embeddings": {"tied_embeddings": True},
    "many experts": {"experts": 16, "experts_per_token": 3},
    "large experts": {"width": 128, "expert_ffn": 256, "experts": 6, "layers": 2},
    "factored matrices": {"attention_rank": 10, "ffn_rank": 13, "strength": 2.0},  # of each factor
    "heads of a width of their own": {"heads": 3, "head_width": 10},
    "odd widths": {"heads": 3, "width": 36, "ffn": 30, "expert_ffn": 12, "vocab_size": 275},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, one_process) -> OpticalModel:
    return reading_model(**MODELS[request.param]).eval()


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1.0)


@pytest.mark.parametrize("widths", [[1] * 12, [3, 1, 2, 6], [12]])
@pytest.mark.parametrize(("count", "mode"), [(1, "64"), (4, TILED), (9, "64")])
def test_every_position_equals_the_training_forward(model, count: int, mode: str, widths: list[int]) -> None:
    """One row and few (each has its own kernels), rows of one length and of several, one new id at a time and more."""
    batch = batch_of(count, mode)
    later = torch.randint(0, 256, (count, 12), generator=torch.Generator().manual_seed(count))
    lengths = (~batch.padding).sum(1).tolist()
    assert (len(set(lengths)) > 1) == (mode == TILED)
    wanted = as_trained(model, batch, later)
    decoder = TextDecoder(model, max(lengths) + 12)
    cache = decoder.cache(count)
    logits = [decoder.prefill(embedded(model, batch), lengths, cache)]
    for tokens in later.split(widths, dim=1):
        logits.append(decoder.step(tokens, cache))
    for row, found in enumerate(torch.cat(logits, dim=1)):
        close(found, wanted[row])
    assert cache.lengths == [length + 12 for length in lengths]


def test_what_was_taken_back_leaves_no_trace(model) -> None:
    """Rows go on from different places after ids that turned out wrong."""
    batch = batch_of(3, TILED)
    later = torch.randint(0, 256, (3, 8), generator=torch.Generator().manual_seed(1))
    lengths = (~batch.padding).sum(1).tolist()
    wanted = as_trained(model, batch, later)
    decoder = TextDecoder(model, max(lengths) + 16)
    cache = decoder.cache(3)
    decoder.prefill(embedded(model, batch), lengths, cache)
    right = [1, 3, 5]
    tried = torch.where(torch.arange(6) < torch.tensor(right)[:, None], later[:, :6], 99)
    decoder.step(tried, cache)
    cache.truncate([length + count for length, count in zip(lengths, right)])
    ahead = torch.stack([later[row, count : count + 3] for row, count in enumerate(right)])
    for row, found in enumerate(decoder.step(ahead, cache)):
        close(found, wanted[row][right[row] + 1 : right[row] + 4])


def test_rows_that_stay_are_not_changed_by_those_that_go(model) -> None:
    batch = batch_of(5, TILED)
    later = torch.randint(0, 256, (5, 6), generator=torch.Generator().manual_seed(2))
    lengths = (~batch.padding).sum(1).tolist()
    wanted = as_trained(model, batch, later)
    decoder = TextDecoder(model, max(lengths) + 6)
    cache = decoder.cache(5)
    decoder.prefill(embedded(model, batch), lengths, cache)
    decoder.step(later[:, :2], cache)
    cache.keep([1, 4])
    decoder.step(later[[1, 4], 2:3], cache)
    cache.keep([1])
    for found, place in zip(decoder.step(later[[4], 3:], cache)[0], (4, 5, 6)):
        close(found, wanted[4][place])


def test_the_parameters_themselves_are_used(one_process) -> None:
    """A change of any of them shows in the logits of the next decoder, and none is held twice."""
    model, batch = reading_model().eval(), batch_of(2)
    lengths = (~batch.padding).sum(1).tolist()

    def logits() -> torch.Tensor:
        decoder = TextDecoder(model, 64)
        cache = decoder.cache(2)
        first = decoder.prefill(embedded(model, batch), lengths, cache)
        return torch.cat([first, decoder.step(first.argmax(-1), cache)], dim=1)

    before = logits()
    for name, parameter in model.decoder.named_parameters():
        with torch.no_grad():
            parameter.mul_(1.1)
        assert not torch.equal(before, logits()), name
        with torch.no_grad():
            parameter.div_(1.1)


def test_bf16_weights_give_nearly_the_logits_of_the_training_forward(one_process) -> None:
    """Both round every operation to 8 bits, in different orders."""
    model, batch = reading_model(strength=1.0).bfloat16().eval(), batch_of(3)
    model.config.params_dtype = torch.bfloat16
    later = torch.randint(0, 256, (3, 4), generator=torch.Generator().manual_seed(3))
    lengths = (~batch.padding).sum(1).tolist()
    wanted = as_trained(model, batch, later)
    decoder = TextDecoder(model, 64)
    cache = decoder.cache(3)
    found = [decoder.prefill(embedded(model, batch), lengths, cache), decoder.step(later, cache)]
    for row, logits in enumerate(torch.cat(found, dim=1)):
        assert (logits - wanted[row]).abs().max() <= 0.03 * wanted[row].abs().max()
