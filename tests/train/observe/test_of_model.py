"""What is told of the model while it trains is what plain torch finds on one process, in every layout."""

from pathlib import Path
from typing import Any

import pytest

from tests.parallel import layouts
from tests.parallel.ranks import asked, free_ports, launch
from tests.train.observe import model_ranks
from tests.train.observe.model_ranks import CASES

EXACT = 1e-6


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """First weights of each variant, none of them zero."""
    from parallel.topology import Topology, start, stop

    folder = tmp_path_factory.mktemp("initial")
    start(Topology(), seed=0)
    for variant in {case.variant for case in CASES.values()}:
        layouts.make_initial(folder, variant)
    stop()
    return folder


@pytest.fixture(scope="module")
def truth(initial: Path) -> dict[str, list[dict[str, float]]]:
    """By variant."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    found = {variant: model_ranks.truth(variant, initial) for variant in {case.variant for case in CASES.values()}}
    stop()
    return found


@pytest.fixture(scope="module")
def results(initial: Path, request: pytest.FixtureRequest) -> dict[str, list[dict[str, Any]]]:
    """Of each case what its ranks were told."""
    names, found = asked(request, test_what_is_told_is_what_plain_torch_finds), {}
    for world in (1, 2, 4):
        own = [name for name in names if CASES[name].world == world]
        if own:
            ranks = launch(model_ranks.play, world, own, free_ports(len(own)), str(initial))
            found |= {name: [rank[name] for rank in ranks] for name in own}
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_is_told_is_what_plain_torch_finds(
    results: dict[str, list[dict[str, Any]]], truth: dict[str, list[dict[str, float]]], name: str
) -> None:
    ranks, expected = results[name], truth[CASES[name].variant]
    for rank in ranks:
        for found, true in zip(rank["values"], expected, strict=True):
            assert found.keys() == true.keys()
            for key, value in true.items():
                assert found[key] == pytest.approx(value, rel=EXACT), key
