"""A student learns from its teacher in every layout as on one process: values and weights after several optimizer steps.

The truth is plain torch: the same objective, torch's AdamW and clip_grad_norm_. Tolerance 1e-5 relative in fp32, where the
order of additions differs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parallel.topology import Topology, start, stop
from tests.parallel.layouts import CLIP, assembled, make_initial
from tests.parallel.ranks import free_ports, launch
from tests.train.distill import teaching
from tests.train.distill.teaching import CASES, SETTINGS

FP32 = 1e-5
JOBS = [*((name, "all") for name in CASES), *(("tensor 2", asked) for asked in SETTINGS if asked != "all")]


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of the first weights of students, and of teachers' runs."""
    folder = tmp_path_factory.mktemp("distill")
    start(Topology(), seed=0)
    for variant in ("moe", "dense"):
        make_initial(folder, variant)
        teaching.write_teacher(folder / f"teacher-{variant}", variant)
    stop()
    yield folder


@pytest.fixture(scope="module")
def truth(initial: Path) -> dict[tuple[str, str], dict[str, Any]]:
    start(Topology(), seed=0)
    wanted = {(CASES[name].variant, asked) for name, asked in JOBS}
    found = {key: teaching.reference(key[0], initial, key[1]) for key in wanted}
    stop()
    return found


@pytest.fixture(scope="module")
def results(initial: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(case, settings) -> what its ranks saw."""
    found = {}
    for world in (1, 2):
        jobs = [job for job in JOBS if CASES[job[0]].world == world]
        ranks = launch(teaching.play, world, jobs, free_ports(len(jobs)), str(initial))
        found |= {job: [rank[job] for rank in ranks] for job in jobs}
    return found


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_layout_learns_from_a_teacher_as_one_process_does(
    results: Any, truth: Any, job: tuple[str, str]
) -> None:
    expected = truth[CASES[job[0]].variant, job[1]]
    for rank in results[job]:
        for (loss, norm), (true_loss, true_norm) in zip(rank["history"], expected["history"], strict=True):
            assert true_norm > CLIP, "clipping is meant to be active"
            assert loss == pytest.approx(true_loss, rel=FP32)
            assert norm == pytest.approx(true_norm, rel=FP32)
        asked = SETTINGS[job[1]]
        for sums in rank["sums"]:
            assert sums["divergence"] > 0 and ("hidden" in sums) == ("hidden" in asked)
    weights = assembled(results[job])
    assert weights.keys() == expected["weights"].keys()
    for key, value in weights.items():
        true = expected["weights"][key]
        assert np.abs(value - true).max() <= FP32 * max(np.abs(true).max(), 1.0), key
