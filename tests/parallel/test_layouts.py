"""Every layout trains as one process does, and goes on from what any other layout saved.

The truth is plain torch: the whole model on one process, torch's AdamW and clip_grad_norm_. All start from one checkpoint,
on real pages mixed with text, with clipping active. Tolerances: 1e-5 relative in fp32, where the order of additions
differs; in bf16 (8 bits of mantissa, and a router may choose another expert) the band below.
"""

import itertools

import layouts
import numpy as np
import pytest
from layouts import BF16, CASES, DORA, MOE, SAVED_AT, STEPS, Case
from ranks import asked, free_ports, launch

from parallel.topology import Topology, start, stop

pytestmark = pytest.mark.timeout(900)  # the whole suite is one fixture
WORLDS = (1, 2, 4)
POISONED = ("pipeline 2", "tensor 2 x pipeline 2", "bf16, tensor 2 x pipeline 2")
FP32, BF16_LOSS, BF16_NORM = 1e-5, 3e-2, 1e-1


SLOW = {  # what each of these adds is in two others, too; `make test-slow` runs them
    "tensor 2 x expert 2 on two", "pipeline 2, encoder alone", "data 2, ZeRO-3, offload, full recompute", "expert 4",
    "frozen, data 2, ZeRO-3", "dead, data 2, ZeRO-3", "dead, expert 4", "convolution, pipeline 2",
    "convolution, data 2, ZeRO-3", "bf16, data 2, ZeRO-2", "dora, expert 2, ZeRO-2", "dora, tensor 2",
}  # fmt: skip


def before(names):
    """Each of the layouts in a ring goes on from what the one before it saved, the first from the last; slow ones from the first."""
    ring = [name for name in names if name not in SLOW]
    return dict(zip(ring, [ring[-1], *ring])) | {name: ring[0] for name in names if name in SLOW}


BEFORE = before(MOE) | before(DORA)


def each_of(names):
    """As parameters of a test."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


def jobs(request):
    """("train", "poison" or "resume", case, whose checkpoint) of the tests that this run asks for."""
    goes_on = asked(request, test_a_layout_goes_on_from_what_another_saved)
    trained = {*asked(request, test_a_layout_trains_as_one_process_does), *(BEFORE[name] for name in goes_on)}
    poisoned = asked(request, test_what_is_not_finite_on_one_stage_is_skipped_by_all_and_leaves_no_trace)
    return [
        *(("train", name, name) for name in CASES if name in trained),
        *(("poison", name, "") for name in poisoned),
        *(("resume", name, BEFORE[name]) for name in goes_on),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def truth(folder):
    """The reference of every variant; leaves the pages and the first weights in `folder`."""
    layouts.build_pages(folder / "pages")
    start(Topology(), seed=0)
    for variant in {case.variant for case in CASES.values()}:
        layouts.make_initial(folder / "initial", variant)
    found = {case.numbers: None for case in CASES.values()}
    for variant, frozen in found:
        case = Case(variant=variant, frozen=frozen)
        found[variant, frozen] = layouts.reference(case, folder / "pages", folder / "initial")
    stop()
    return found


@pytest.fixture(scope="module")
def results(truth, folder, request):
    """(kind, case) -> what its ranks saw. All training comes first: any may resume from any."""
    found, wanted = {}, jobs(request)
    for resumes, world in itertools.product((False, True), WORLDS):
        paths = [str(folder / name) for name in ("pages", "initial", "saved")]
        work = [job for job in wanted if (job[0] == "resume") == resumes and CASES[job[1]].world == world]
        if not work:
            continue
        ranks = launch(layouts.play, world, work, free_ports(len(work)), *paths, timeout=600)
        found |= {job: [rank[job] for rank in ranks] for job in ranks[0]}
    return found


def assert_history(history, truth, bf16):
    loss_band, norm_band = (BF16_LOSS, BF16_NORM) if bf16 else (FP32, FP32)
    for (loss, norm), (true_loss, true_norm) in zip(history, truth, strict=True):
        assert true_norm > layouts.CLIP, "clipping is meant to be active"
        assert loss == pytest.approx(true_loss, rel=loss_band)
        assert norm == pytest.approx(true_norm, rel=norm_band)


@pytest.mark.parametrize("name", each_of(CASES))
def test_a_layout_trains_as_one_process_does(results, truth, name):
    case, ranks = CASES[name], results["train", name]
    expected, bf16 = truth[case.numbers], name in BF16
    for rank in ranks:
        assert_history(rank["history"], expected["history"], bf16)
        assert rank["sums"][0].keys() == rank["sums"][1].keys()
    weights = layouts.assembled(ranks)
    assert weights.keys() == expected["weights"].keys()
    for key, value in weights.items():
        true, scale = expected["weights"][key], np.abs(expected["weights"][key]).max()
        band = 2 * STEPS * layouts.RATE if bf16 else FP32 * max(scale, 1.0)
        assert np.abs(value - true).max() <= band, key


@pytest.mark.parametrize("name", each_of([*MOE, *DORA]))
def test_a_layout_goes_on_from_what_another_saved(results, truth, name):
    for rank in results["resume", name]:
        assert_history(rank["history"], truth[CASES[name].numbers]["history"][SAVED_AT:], bf16=False)


@pytest.mark.parametrize("name", POISONED)
def test_what_is_not_finite_on_one_stage_is_skipped_by_all_and_leaves_no_trace(results, truth, name):
    for rank in results["poison", name]:
        assert rank["skipped"] == [True, True, True] and rank["unchanged"]
        assert_history(rank["history"], truth[CASES[name].numbers]["history"][:2], name in BF16)


def test_factors_alone_learn(truth, folder):
    first = layouts.start_weights(folder / "initial", "dora")
    moved = {key for key, value in truth["dora", ()]["weights"].items() if not np.array_equal(value, first[key])}
    factors = {key for key in first if ".low_rank." in key}
    assert moved == factors and len(factors) > 100


def test_the_variants_are_what_they_say(truth):
    assert truth["dead", ()]["idle"] == STEPS * 4 * 3, "in every MoE layer and micro-batch some expert is idle"
    assert "decoder.output_layer.weight" not in truth["tied", ()]["weights"]
    assert not any("experts" in key for key in truth["dense", ()]["weights"])
