"""Who is compared with whom, who is named, and how often; with real ranks: test_run_watch.py."""

from typing import Any

import pytest

from parallel.topology import Topology
from train.observe.stragglers import Stragglers, slowness


@pytest.mark.parametrize(
    ("topology", "computed", "found"),
    [
        (Topology(data=4), [1.0, 1.0, 1.0, 1.8], {(3,): 1.8}),
        (Topology(data=2), [1.0, 3.0], {(1,): 3.0}),
        (Topology(tensor=2, data=3), [1.0, 1.0, 2.0, 2.0, 1.0, 1.0], {(2, 3): 2.0}),  # tensor ranks move together
        (Topology(expert=2, data=4), [1.0, 1.0, 2.0, 2.0], {(2, 3): 2.0}),
        (Topology(pipeline=2, data=2), [5.0, 5.0, 1.0, 2.0], {(3,): 2.0}),  # the first stage has the encoder
        (Topology(tensor=4), [1.0, 1.0, 1.0, 9.0], None),  # nobody does the same work
        (Topology(pipeline=4), [1.0, 2.0, 3.0, 4.0], None),
        (Topology(data=2), [0.0, 0.0], None),  # ZeRO-3
    ],
)
def test_ranks_are_compared_with_those_that_do_the_same_work(
    topology: Topology, computed: list[float], found: dict[tuple[int, ...], float] | None
) -> None:
    factors = slowness(computed, topology)
    assert {ranks: factor for ranks, factor in factors.items() if factor != 1.0} == (found or {})
    assert bool(factors) == (found is not None)


def watched(said: list[str], world: int) -> Any:
    nodes = [f"n{rank // 2}" for rank in range(world)]
    return Stragglers(None, Topology(data=world), 1, nodes, said.append)  # type: ignore[arg-type]


def window(computed: list[float], waited: list[float]) -> list[list[float]]:
    """Of ten steps of a second."""
    return [[own * 10, 10.0, 0.0, wait * 10, 10.0, 10.0] for own, wait in zip(computed, waited)]


def test_a_rank_is_named_once_until_it_has_recovered() -> None:
    said: list[str] = []
    watch, usual, slow = watched(said, 4), [0.5] * 4, [0.5, 0.5, 0.5, 0.9]
    for computed in (usual, slow, usual, slow, slow, slow, slow, usual, usual, slow, slow, slow):
        watch.judge(window(computed, [0.0] * 4), 10)
    assert said == ["rank 3 (n1) computes 1.8 times as long as the median over the last 20 steps; the others wait"] * 2


def test_waiting_for_data_is_told_of_one_of_some_and_of_all() -> None:
    told: list[list[str]] = []
    for waited in ([0.0, 0.4, 0.0, 0.0], [0.0, 0.4, 0.2, 0.0], [0.4] * 4):
        said: list[str] = []
        watch = watched(said, 4)
        found = watch.judge(window([0.5] * 4, waited), 10)
        assert found["data_wait_share_worst"] == pytest.approx(0.4)
        watch.judge(window([0.5] * 4, waited), 20)
        told.append(said)
    why = "of a step for data: its storage is slow, or reading needs more data.workers= or data.prefetch="
    assert told == [[f"rank 1 (n0) waits 40% {why}"], [f"ranks 1 (n0), 2 (n1) wait up to 40% {why}"], [f"every rank waits up to 40% {why}"]]
