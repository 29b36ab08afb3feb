"""Every format keeps what was put into it, as exactly as it says, at every row's own place."""

import pytest
import torch

from tests.train.generate.reading_model import TILED, batch_of, reading_model
from train.generate.cache import Cache
from train.generate.decoder import TextDecoder
from train.generate.decoding import embedded

ROWS, HEADS, ROOM, WIDTH = 3, 2, 12, 8

# Largest error, as a share of the largest magnitude of a position's head: half a step.
ROUNDING = {"auto": 0.0, "bf16": 2.0**-8, "int8": 0.5 / 127}


def numbers(positions: int, seed: int) -> torch.Tensor:
    """[B, N, Q, H] of very different magnitudes from position to position."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(ROWS, HEADS, positions, WIDTH, generator=generator)
    return values * 10.0 ** torch.randint(-3, 4, (ROWS, HEADS, positions, 1), generator=generator)


def cache_of(kept_as: str) -> Cache:
    return Cache(1, ROWS, HEADS, ROOM, WIDTH, torch.float32, torch.device("cpu"), kept_as)


@pytest.mark.parametrize("kept_as", ROUNDING)
def test_rows_hold_what_was_put_at_their_places(kept_as: str) -> None:
    """Also after some of it was taken back, row by row, and written again."""
    cache = cache_of(kept_as)
    wanted = [torch.zeros(ROWS, HEADS, ROOM, WIDTH) for _ in range(2)]
    for turn, (positions, held) in enumerate(
        [(4, [4, 2, 3]), (1, [5, 3, 3]), (3, [8, 4, 6]), (4, [12, 8, 10])]
    ):
        starts = cache.lengths
        new = numbers(positions, 2 * turn), numbers(positions, 2 * turn + 1)
        places = cache.next_places(positions)
        cache.append(0, *new, places)
        for row, start in enumerate(starts):
            for whole, part in zip(wanted, new):
                whole[row, :, start : start + positions] = part[row]
        found = cache.read(0, places.end)
        for whole, part in zip(wanted, found):
            part = part.view(ROWS, HEADS, -1, WIDTH)
            for row in range(ROWS):
                own = whole[row, :, : starts[row] + positions]
                errors = (part[row, :, : own.shape[1]] - own).abs().amax(-1)
                assert (errors <= ROUNDING[kept_as] * own.abs().amax(-1) * 1.001).all()
                assert ROUNDING[kept_as] == 0 or errors.max() > 0
        cache.truncate(held)
    assert cache.lengths == [12, 8, 10]


@pytest.mark.parametrize("kept_as", ROUNDING)
def test_rows_that_are_kept_move_up(kept_as: str) -> None:
    cache = cache_of(kept_as)
    cache.append(0, numbers(5, 1), numbers(5, 2), cache.next_places(5))
    before = cache.read(0, 5)[1].view(ROWS, HEADS, 5, WIDTH).clone()
    cache.truncate([5, 4, 3])
    cache.keep([0, 2])
    after = cache.read(0, 5)[1].view(2, HEADS, 5, WIDTH)
    assert cache.lengths == [5, 3]
    torch.testing.assert_close(after, before[[0, 2]], rtol=0, atol=0)


def test_a_full_cache_says_so() -> None:
    cache = cache_of("auto")
    cache.next_places(ROOM)
    with pytest.raises(ValueError, match="a cache of 12 positions cannot hold 13"):
        cache.next_places(1)


def test_positions_ahead_are_hidden_from_each_row() -> None:
    cache = cache_of("auto")
    cache.next_places(5)
    cache.truncate([5, 3, 4])
    hidden = cache.next_places(2).hidden(torch.float32, HEADS)
    assert hidden is not None and hidden.shape == (ROWS * HEADS, 2, 7)
    seen = (hidden.view(ROWS, HEADS, 2, 7) == 0).sum(-1)
    assert seen[:, 0].tolist() == seen[:, 1].tolist() == [[6, 7], [4, 5], [5, 6]]
    assert cache_of("auto").next_places(1).hidden(torch.float32, HEADS) is None


# The experts' choice is no smooth function: where rounding turns it, a logit jumps. So this holds without experts.
@pytest.mark.parametrize(("kept_as", "bound"), [("bf16", 0.01), ("int8", 0.02)])
def test_a_small_cache_moves_the_logits_little(one_process, kept_as: str, bound: float) -> None:
    model, batch = reading_model(strength=1.0, dense_layers=3).eval(), batch_of(3, TILED)
    later = torch.randint(0, 256, (3, 40), generator=torch.Generator().manual_seed(5))
    lengths = (~batch.padding).sum(1).tolist()
    decoder = TextDecoder(model, 128)
    caches = [decoder.cache(3), decoder.cache(3, kept_as)]
    for cache in caches:
        decoder.prefill(embedded(model, batch), lengths, cache)
    exact, rounded = (
        torch.cat([decoder.step(part, cache) for part in later.split(1, 1)], 1) for cache in caches
    )
    error = ((rounded - exact).abs().max() / exact.abs().max()).item()
    assert 0 < error <= bound, error


@pytest.mark.parametrize(("kept_as", "share"), [("bf16", 0.5), ("int8", 0.25 + 1 / 64)])
def test_a_small_cache_takes_less_room(kept_as: str, share: float) -> None:
    def size(kept_as: str) -> int:
        cache = Cache(2, ROWS, HEADS, ROOM, 64, torch.float32, torch.device("cpu"), kept_as)
        tensors = [tensor for store in cache.keys + cache.values for tensor in vars(store).values()]
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))

    assert size(kept_as) == share * size("auto")
