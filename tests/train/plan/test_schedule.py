"""The simulated pipeline: who does what when, and how long everyone waits."""

import pytest

from train.plan.schedule import most_kept, simulate, turns


@pytest.mark.parametrize(("ranks", "virtual", "micro_batches"), [(1, 1, 3), (4, 1, 2), (4, 1, 16), (2, 2, 4), (4, 3, 8), (4, 2, 4)])
def test_every_piece_works_once_on_every_micro_batch_forward_before_backward(
    ranks: int, virtual: int, micro_batches: int
) -> None:
    for rank in range(ranks):
        order = list(turns(rank, ranks, virtual, micro_batches))
        everything = {(piece, number) for piece in range(virtual) for number in range(micro_batches)}
        assert len(order) == 2 * len(everything)
        for forward in (True, False):
            assert {turn[1:] for turn in order if turn[0] is forward} == everything
        assert all(order.index((True, *work)) < order.index((False, *work)) for work in everything)


def test_a_rank_of_1f1b_keeps_as_many_micro_batches_as_ranks_follow_it_and_one() -> None:
    assert [most_kept(rank, 4, 16, [10.0]) for rank in range(4)] == [40.0, 30.0, 20.0, 10.0]
    assert most_kept(0, 4, 2, [10.0]) == 20.0


def test_an_interleaved_first_rank_keeps_more_than_one_pipeline_of_micro_batches() -> None:
    # megatron-core warms up with 2 (ranks - 1) + (pieces - 1) ranks forwards, then one more
    assert most_kept(0, 4, 16, [1.0, 1.0]) == 2 * 3 + 4 + 1


@pytest.mark.parametrize("micro_batches", [4, 8, 100])
def test_equal_stages_wait_as_the_formula_for_1f1b_says(micro_batches: int) -> None:
    timing = simulate([1.0] * 4, [2.0] * 4, [0.0] * 4, 4, micro_batches)
    assert timing.seconds == pytest.approx(3 * (micro_batches + 3))
    assert timing.bubble == pytest.approx([3 / (micro_batches + 3)] * 4)


def test_interleaving_divides_the_wait_by_the_pieces() -> None:
    timing = simulate([0.5] * 8, [1.0] * 8, [0.0] * 8, 4, 8)
    assert timing.seconds == pytest.approx(3 * 8 + 3 * 3 / 2)


def test_the_slowest_stage_sets_the_pace_and_messages_add_up() -> None:
    uneven = simulate([0.1, 1.0], [0.1, 2.0], [0.0, 0.0], 2, 50)
    assert uneven.seconds == pytest.approx(50 * 3.0 + 0.2)
    assert uneven.bubble[0] > 0.9 > 0.01 > uneven.bubble[1]
    assert simulate([1.0, 1.0], [2.0, 2.0], [0.5, 0.0], 2, 1).seconds == pytest.approx(6 + 2 * 0.5)
