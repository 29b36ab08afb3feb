"""Rounded and masked weights train in every layout as on one process: whatever a rank holds of a row, the row's range, its
lowest scores and the norms of what it multiplies are those of the whole.

Tolerance: 1e-5 relative on losses and norms, as for weights that are not rounded (tests/parallel/test_layouts.py). Where weights
differ in their last bit, as they may after a step, a value between two integers is rounded the other way, by a whole step:
rare for weights and zero points, usual for activations and for torchao's symmetric scales, which put the largest of a group
on -7.5. There the first step is held to 1e-5, and what follows to the wider band.
"""

import compressed_ranks
import layouts
import numpy as np
import pytest
from compressed_ranks import SAVED_AT, VARIANTS
from ranks import free_ports, launch

from parallel.topology import Topology, start, stop

pytest.importorskip("torchao", reason="torchao is absent: install the extra `quantize`")
pytestmark = pytest.mark.timeout(600)  # one launch of each size
LAYOUTS = {
    "groups": ("tensor 2", "data 2, ZeRO-3"),
    "rows and activations": ("tensor 2",),
    "learned rows": ("tensor 2", "pipeline 2"),
    "learned groups": ("tensor 2 x expert 2",),
    "wanda": ("tensor 2 x expert 2", "expert 2, ZeRO-2"),
    "two of four beside factors": ("tensor 2", "data 2, ZeRO-3"),
}
RESUMED = (("learned rows", "data 2, ZeRO-3", "tensor 2"), ("wanda", "tensor 2", "expert 2, ZeRO-2"))
PAIRS = [(name, layout) for name, found in LAYOUTS.items() for layout in found]
BAND = {"rows and activations": 2e-2}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    layouts.build_pages(folder / "pages")
    start(Topology(), seed=0)
    layouts.make_initial(folder / "initial", "moe")
    stop()
    alone = [(name, "one process", "") for name in VARIANTS]
    several = [(name, layout, "") for name, layout in PAIRS]
    found = {}
    for jobs, world in ((alone, 1), ([*several, *RESUMED], 2)):
        paths = [str(folder / name) for name in ("pages", "initial", "saved")]
        ranks = launch(compressed_ranks.play, world, jobs, free_ports(len(jobs) + 1), *paths, timeout=500)
        found |= {
            (job, world) if job == "row layer" else job: [rank[job] for rank in ranks] for job in ranks[0]
        }
    return found


def assert_same(ranks, truth, band, first=0):
    for rank in ranks:
        for step, (got, true) in enumerate(
            zip(rank["history"], truth["history"][first:], strict=True), first
        ):
            assert got == pytest.approx(true, rel=band if step else 1e-5)
    weights, expected = layouts.assembled(ranks), layouts.assembled([truth])
    assert weights.keys() == expected.keys()
    for key, value in weights.items():
        assert np.abs(value - expected[key]).max() <= band * max(np.abs(expected[key]).max(), 1.0), key


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_a_layout_trains_rounded_and_masked_weights_as_one_process_does(results, name, layout):
    (truth,) = results[name, "one process", ""]
    assert_same(results[name, layout, ""], truth, BAND.get(name, 1e-5))


@pytest.mark.parametrize(("name", "layout", "before"), RESUMED)
def test_masks_and_learned_scales_go_on_from_what_another_layout_saved(results, name, layout, before):
    (truth,) = results[name, "one process", ""]
    assert_same(results[name, layout, before], truth, 1e-5, SAVED_AT)


def test_masks_hold_half_of_every_row_at_zero(results):
    (truth,) = results["wanda", "one process", ""]
    masks = {key: value for key, value in layouts.assembled([truth]).items() if key.endswith(".kept")}
    assert len(masks) > 20
    for key, kept in masks.items():
        assert (kept.sum(-1) == kept.shape[-1] / 2).all(), key


def test_a_row_that_ranks_share_out_has_one_scale_to_the_last_bit(results):
    (whole,), parts = results["row layer", 1], results["row layer", 2]
    for value, *split in zip(whole, *parts, strict=True):
        assert np.array_equal(np.concatenate(split, -1), value)
