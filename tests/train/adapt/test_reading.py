"""A tuned model reads as it trains: with adapters, behind its prefix, after its prompt; on one process and on tensor ranks."""

import pytest
import torch

from tests.parallel.ranks import free_ports, launch
from tests.train.adapt import read_ranks
from tests.train.adapt.read_ranks import ON_RANKS, TUNES, batch_of, text, tuned_model
from tests.train.generate.reading_model import as_trained
from train.generate.decoder import TextDecoder
from train.generate.decoding import embedded

pytestmark = pytest.mark.usefixtures("one_process")
STEPS = 10


@pytest.mark.parametrize("tune", TUNES)
def test_every_position_equals_the_training_forward(tune: str) -> None:
    """One row is read by other kernels than several; of several that stay, each is read as before. fp32, as in
    tests/train/generate/test_decoder.py.
    """
    model, batch = tuned_model(tune), batch_of(tune, 3)
    later = torch.randint(0, 256, (3, STEPS), generator=torch.Generator().manual_seed(3))
    wanted = as_trained(model, batch, later)
    lengths = (~batch.padding).sum(1).tolist()
    assert len(set(lengths)) > 1
    decoder = TextDecoder(model, max(lengths) + STEPS)
    cache = decoder.cache(3)
    logits = [decoder.prefill(embedded(model, batch), lengths, cache)]
    logits += [decoder.step(tokens, cache) for tokens in later[:, :6].split([1, 3, 2], dim=1)]
    for row, found in enumerate(torch.cat(logits, dim=1)):
        close(found, wanted[row][:7])
    assert cache.lengths == [length + 6 for length in lengths]
    cache.truncate([length + 5 for length in lengths])
    cache.keep([1])
    for found, place in zip(decoder.step(later[[1], 5:], cache)[0], range(6, STEPS + 1), strict=True):
        close(found, wanted[1][place])


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1.0)


@pytest.mark.parametrize("tune", TUNES)
def test_what_was_added_is_read_with(tune: str) -> None:
    """Each of its parameters has a say in the logits; without any of it they are others."""
    model, batch = tuned_model(tune), batch_of(tune, 2)
    lengths = (~batch.padding).sum(1).tolist()

    def logits() -> torch.Tensor:
        decoder = TextDecoder(model, 64)
        cache = decoder.cache(2)
        first = decoder.prefill(embedded(model, batch), lengths, cache)
        return torch.cat([first, decoder.step(first.argmax(-1), cache)], dim=1)

    before = logits()
    added = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert added
    for name, parameter in added.items():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.5)
        assert not torch.equal(before, logits()), name
        with torch.no_grad():
            parameter.copy_(kept)


def test_proposals_change_no_text() -> None:
    assert text("prefix", "looked up") == text("prefix", "greedy")


@pytest.mark.parametrize(("kept_as", "step"), [("auto", 0.0), ("int8", 0.5 / 127)])
def test_a_cache_begins_with_the_prefix_in_every_row(kept_as: str, step: float) -> None:
    """Rounded like all that it holds: to half a step of the largest number of a position and head."""
    decoder = TextDecoder(tuned_model("p_tuning_v2"), 64)
    cache = decoder.cache(3, kept_as)
    for number, layer in enumerate(decoder.layers):
        for found, wanted in zip(cache.read(number, 6), layer.attention.prefix or (), strict=True):
            rows = found.unflatten(0, (3, -1))
            largest = wanted.abs().amax(-1, keepdim=True)
            assert ((rows - wanted).abs() <= step * largest * (1 + 1e-6)).all()


def test_tensor_ranks_read_what_one_process_reads() -> None:
    ranks = launch(read_ranks.play, 2, free_ports(1))
    for tune, how in ON_RANKS:
        wanted = text(tune, how)
        assert all(rank[tune, how] == wanted for rank in ranks), (tune, how)
