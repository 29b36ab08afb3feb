"""MFU: the count of a run against the planner's (tests/train/plan holds that against torch's own), the peaks, the figure itself."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from conf.compose import compose
from data_pipeline.batch import MicroBatch
from parallel.topology import Topology
from train.config import Config
from train.observe.mfu import Count, Utilization, lengths, peak_of, uncounted
from train.plan.config import DeviceConfig
from train.plan.layout import flops_of_row
from train.plan.pieces import Pieces, batch
from train.plan.work import Prices, view_sizes


@pytest.mark.parametrize(
    ("name", "memory", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 79.2, "bf16", 989e12),
        ("NVIDIA A100-SXM4-40GB", 39.4, "bf16", 312e12),
        ("NVIDIA A100-SXM4-80GB", 79.3, "fp32", 19.5e12),
        ("NVIDIA H200", 139.8, "bf16", 989e12),
        ("Some Other GPU", 24.0, "bf16", None),
    ],
)
def test_peaks_are_those_of_conf_device(name: str, memory: float, precision: str, peak: float | None) -> None:
    assert peak_of(name, memory, precision) == peak


def test_stages_that_do_other_work_have_no_mfu() -> None:
    assert uncounted(Config()) == ""
    assert "tune=dora" in uncounted(compose("config", Config, ["tune=dora"]))


def test_utilization_is_of_all_ranks_and_steps_between_two_gathers() -> None:
    """Tensor ranks hold the same batches: they count once."""
    prices = Prices(positions=10.0, pairs=1.0, labels=5.0, views={64: 100.0})
    part = Utilization(lambda: prices, peak=1000.0, sizes=[64], topology=Topology(tensor=2, data=2))  # type: ignore[arg-type]
    done = 2 * (10 * 30 + 500 + 100 * 2) + 5 * 40
    rows = [[30.0, 500.0, 2.0, 40.0, 0.5]] * 4
    assert part.judge(rows, 10) == {"mfu": pytest.approx(done / (0.5 * 4 * 1000))}
    unknown = Utilization(lambda: None, peak=1000.0, sizes=[64], topology=Topology())  # type: ignore[arg-type, return-value]
    assert unknown.judge(rows, 10) == {}


def test_a_run_learns_its_prices_from_a_process_beside_it(tmp_path: Path) -> None:
    """Views of two sizes, and layers of two kinds; and the row that a plan is made for costs what the plan says."""
    config = compose("config", Config, ["model=tiny", "stage=encoder", "data.modes=['64+32']", "data.max_length=96"])
    OmegaConf.save(OmegaConf.structured(config), tmp_path / "config.yaml")
    count = Count(tmp_path / "config.yaml")
    assert count() is None
    count._process.wait(120)
    prices = count()
    assert prices is not None and count() is prices
    count.close()
    row = batch(config, 1)
    views = Counter({stack.shape[-1]: len(stack) for stack in row.views})
    assert sorted(views) == view_sizes(config) == [32, 64]
    assert prices.flops(96, 96**2, 96, views) == pytest.approx(flops_of_row(config, Pieces(config, DeviceConfig(fused_bias=True))))


def test_a_count_that_fails_is_no_mfu(tmp_path: Path) -> None:
    count = Count(tmp_path / "none.yaml")
    count._process.wait(120)
    assert count() is None
    count.close()


def test_lengths_are_those_of_samples() -> None:
    padding = torch.tensor([[False, False, True], [False, False, False]])
    rest = {"tokens": padding, "labels": padding, "positions": padding, "views": (), "layout": padding, "shown": (), "glyphs": None}
    assert lengths(MicroBatch(**rest, padding=padding, keys=[], sources=[])).tolist() == [2, 3]
    packed = MicroBatch(**rest, padding=padding, keys=[], sources=[], bounds=torch.tensor([0, 2, 3, 6]))
    assert lengths(packed).tolist() == [2, 1, 3]
