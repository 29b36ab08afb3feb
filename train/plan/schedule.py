"""megatron-core's pipeline schedules, simulated: 1F1B and, with several pieces a rank, interleaved 1F1B.

A piece is a number in model order: piece c * ranks + r is the c-th of rank r.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ROUNDS = 6  # of micro-batches through all ranks, after which every further one adds the slowest rank's time


@dataclass(frozen=True)
class Timing:
    """seconds: from the first forward to the last backward. bubble: share of it in which a rank waits, by rank."""

    seconds: float
    bubble: list[float]


Turn = tuple[bool, int, int]  # forward?, the rank's piece, the micro-batch


def turns(rank: int, ranks: int, virtual: int, micro_batches: int) -> Iterator[Turn]:
    """What a rank does, in order."""
    total = micro_batches * virtual
    ahead = ranks - rank - 1
    if virtual > 1:
        ahead = total if micro_batches == ranks else 2 * ahead + (virtual - 1) * ranks
    ahead = min(ahead, total)
    for step in range(total + ahead):
        if step < total:
            yield (True, *_piece_of(step, ranks, virtual))
        if step >= ahead:
            piece, micro_batch = _piece_of(step - ahead, ranks, virtual)
            yield False, virtual - 1 - piece, micro_batch


def _piece_of(step: int, ranks: int, virtual: int) -> tuple[int, int]:
    """(the rank's piece, micro-batch) of a rank's forward number `step`: `ranks` micro-batches a piece, then the next."""
    if virtual == 1:
        return 0, step
    rounds, within = divmod(step, ranks * virtual)
    return within // ranks, rounds * ranks + within % ranks


def most_kept(rank: int, ranks: int, micro_batches: int, kept: Sequence[float]) -> float:
    """Bytes a rank keeps at most, its pieces keeping `kept` for each micro-batch under way."""
    now = most = 0.0
    for forward, piece, _ in turns(rank, ranks, len(kept), micro_batches):
        now += kept[piece] if forward else -kept[piece]
        most = max(most, now)
    return most


def simulate(
    forward: Sequence[float], backward: Sequence[float], message: Sequence[float], ranks: int, micro_batches: int
) -> Timing:
    """Times of each piece's forward and backward, and of the message to the next piece, in seconds; as many as pieces."""
    virtual = len(forward) // ranks
    work = [sum(forward[rank::ranks]) + sum(backward[rank::ranks]) for rank in range(ranks)]
    simulated = min(micro_batches, _ROUNDS * ranks)
    seconds = _run(forward, backward, message, ranks, virtual, simulated)
    seconds += (micro_batches - simulated) * max(work)
    return Timing(seconds, [1 - micro_batches * own / seconds if seconds else 0.0 for own in work])


def _run(
    forward: Sequence[float],
    backward: Sequence[float],
    message: Sequence[float],
    ranks: int,
    virtual: int,
    micro_batches: int,
) -> float:
    """Every rank takes its turns in order, each as soon as what it needs has arrived."""
    waiting = [list(turns(rank, ranks, virtual, micro_batches)) for rank in range(ranks)]
    place, clock = [0] * ranks, [0.0] * ranks
    done: dict[Turn, float] = {}  # by piece of the model
    last = len(forward) - 1
    moved = True
    while moved:
        moved = False
        for rank in range(ranks):
            while place[rank] < len(waiting[rank]):
                ahead, own, micro_batch = waiting[rank][place[rank]]
                piece = own * ranks + rank
                if ahead:
                    before = done.get((True, piece - 1, micro_batch)) if piece else 0.0
                    delay = message[piece - 1] if piece else 0.0
                else:
                    before = done.get((False, piece + 1, micro_batch)) if piece < last else 0.0
                    delay = message[piece] if piece < last else 0.0
                if before is None:
                    break
                took = forward[piece] if ahead else backward[piece]
                clock[rank] = max(clock[rank], before + delay) + took
                done[ahead, piece, micro_batch] = clock[rank]
                place[rank] += 1
                moved = True
    return max(clock)
