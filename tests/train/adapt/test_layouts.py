"""Every tuner trains in every layout as one process does, with samples that share rows as with rows of their own, and goes on
from what another layout saved; nothing of the base moves.

The truth is plain torch on one process with a row a sample. Tolerance 1e-5 relative in fp32, where the order of additions
differs, as in tests/parallel/test_layouts.py.
"""

from fnmatch import fnmatchcase
from functools import partial

import numpy as np
import pytest

from parallel.topology import Topology, start, stop
from tests.parallel import layouts
from tests.parallel.ranks import asked, free_ports, launch
from tests.train.adapt import tuned_ranks
from tests.train.adapt.tuned_ranks import CASES, RARE, RESUMED, SAVED_AT, TUNES

pytestmark = pytest.mark.timeout(300)
FP32 = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def truth(folder):
    """The reference of every tuner; leaves the base's weights in `folder`."""
    start(Topology(), seed=0)
    layouts.make_initial(folder / "initial", "moe")
    found = {tune: tuned_ranks.reference(tune, folder / "initial") for tune in TUNES}
    stop()
    return found


@pytest.fixture(scope="module")
def results(truth, folder, request):
    """(kind, case) -> what its ranks saw, in one launch: of the cases that this run asks for."""
    goes_on = asked(request, test_a_tuned_run_goes_on_in_another_layout)
    trained = {*asked(request, test_a_tuner_trains_as_on_one_process_with_a_row_for_each_sample),
               *(RESUMED[name] for name in goes_on)}  # fmt: skip
    jobs = [("train", name, name) for name in CASES if name in trained]
    jobs += [("resume", name, RESUMED[name]) for name in goes_on]
    paths = [str(folder / name) for name in ("initial", "saved")]
    ranks = launch(tuned_ranks.play, 2, jobs, free_ports(len(jobs)), *paths)
    return {job: [rank[job] for rank in ranks] for job in ranks[0]}


def assert_history(history, truth):
    for (loss, norm), (true_loss, true_norm) in zip(history, truth, strict=True):
        assert loss == pytest.approx(true_loss, rel=FP32)
        assert norm == pytest.approx(true_norm, rel=FP32)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in RARE else ()) for name in CASES]
)
def test_a_tuner_trains_as_on_one_process_with_a_row_for_each_sample(results, truth, name):
    expected, ranks = truth[CASES[name][0]], results["train", name]
    for rank in ranks:
        assert_history(rank["history"], expected["history"])
    weights = layouts.assembled(ranks)
    assert weights.keys() == expected["weights"].keys()
    for key, value in weights.items():
        true = expected["weights"][key]
        assert np.abs(value - true).max() <= FP32 * max(np.abs(true).max(), 1.0), key


@pytest.mark.parametrize("name", RESUMED)
def test_a_tuned_run_goes_on_in_another_layout(results, truth, name):
    for rank in results["resume", name]:
        assert_history(rank["history"], truth[CASES[name][0]]["history"][SAVED_AT:])


MOVING = {
    "adapter": "*_adapter.*",
    "adapter behind experts": "*.[123].feed_adapter.* *norm*weight",
    "prefix": "*.prefix.*",
    "p_tuning_v2": "*.prefix.*",
    "prompt": "prompt.rows",
    "p_tuning": "prompt.*",
    "selective": "decoder.*norm* encoder.*.bias",
}


@pytest.mark.parametrize("tune", TUNES)
def test_what_was_added_or_named_learns_and_nothing_else_moves(truth, tune):
    before, after = truth[tune]["before"], truth[tune]["weights"]
    moved = {key for key in after if not np.array_equal(before[key], after[key])}
    assert moved == {key for key in after if any(map(partial(fnmatchcase, key), MOVING[tune].split()))}
