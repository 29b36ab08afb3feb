"""How far weights moved: by torch's own formulas, in every layout, on real runs; and the controlled comparison's signs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig
from PIL import Image
from ranks import free_ports, launch

from conf.compose import Composer
from conf.errors import ConfigError
from parallel.layers import Linear, Site, WeightTransform
from tests.train.weight_decomposition_ranks import LAYOUTS, play, stages
from train.config import Config
from train.report import write_report
from train.transform.low_rank import Factors, LowRank
from train.validate import validate
from train.weight_decomposition.measure import change_of

REPOSITORY = Path(__file__).parents[2]
KINDS = ("none", "dora")
DECODER_LAYERS = 3  # of the model tiny


@pytest.fixture
def layer() -> Linear:
    """A layer of 12 rows, in fp64."""
    torch.manual_seed(0)
    settings = TransformerConfig(num_layers=1, hidden_size=4, num_attention_heads=1)
    return Linear(settings, 20, 12, bias=False).double()


def by_torch(now: torch.Tensor, before: torch.Tensor) -> tuple[float, float, float]:
    """(magnitude, direction, correlation) of two matrices."""
    lengths = (torch.linalg.vector_norm(now, dim=1) - torch.linalg.vector_norm(before, dim=1)).abs()
    turned = 1 - F.cosine_similarity(now, before, dim=1)
    return lengths.mean().item(), turned.mean().item(), torch.corrcoef(torch.stack([lengths, turned]))[0, 1].item()


def test_a_trained_weight_has_moved_as_torch_says(layer: Linear) -> None:
    (site,), start = layer.sites(), layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(start) * 0.05)
    change = change_of(site, start)
    assert change.rows == 12
    assert (change.magnitude, change.direction, change.correlation) == pytest.approx(
        by_torch(layer.weight.detach(), start), rel=1e-12
    )


@pytest.mark.parametrize("magnitude", [False, True])
def test_low_rank_factors_move_the_weight_that_is_used(layer: Linear, magnitude: bool) -> None:
    (site,), weight = layer.sites(), layer.weight.detach()
    layer.weight.requires_grad_(False)
    factors = LowRank(site, Factors(3, 2.0, magnitude), "layer", seed=0)
    site.attach("low_rank", factors)
    assert change_of(site, weight).magnitude == pytest.approx(0, abs=1e-15)
    with torch.no_grad():
        factors.b.normal_()
        if magnitude:
            factors.m.mul_(torch.linspace(0.5, 2, 12))
    factors.weights_changed()
    used = weight + 2 * factors.b.detach() @ factors.a.detach()
    if magnitude:
        used = F.normalize(used, dim=1) * factors.m.detach()[:, None]
    change = change_of(site, weight)
    assert (change.magnitude, change.direction, change.correlation) == pytest.approx(by_torch(used, weight), rel=1e-10)


class Half(WeightTransform):
    """Leaves out every second input."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * torch.tensor([1.0, 0.0]).repeat(weight.shape[1] // 2)


class Coarse(WeightTransform):
    """Rounds."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.round()


def test_a_mask_lies_on_both_sides_and_rounding_on_neither(layer: Linear) -> None:
    (site,), start = layer.sites(), layer.weight.detach().clone()
    site.attach("quantize", Coarse())
    site.attach("mask", Half())
    assert change_of(site, start).direction == pytest.approx(0, abs=1e-15)
    with torch.no_grad():
        layer.weight.mul_(3)
        layer.weight[0] = 0
    change, half = change_of(site, start), start[:, ::2]
    magnitude = (torch.linalg.vector_norm(half, dim=1) * torch.tensor([1.0] + [2.0] * 11)).mean().item()
    assert (change.magnitude, change.direction) == pytest.approx((magnitude, 0), rel=1e-12, abs=1e-15)


def test_an_unmoved_weight_has_no_correlation(layer: Linear) -> None:
    (site,) = layer.sites()
    assert change_of(Site(layer), layer.weight.detach().clone()).correlation is None
    assert change_of(site, layer.weight.detach().clone()).rows == 12


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Of each layout and kind of tuning, the rows of the same model."""
    alone = launch(play, 1, ["one"], free_ports(1), KINDS)[0]
    several = [name for name in LAYOUTS if name != "one"]
    first, second = launch(play, 2, several, free_ports(len(several)), KINDS)
    assert first == second, "ranks do not agree"
    return alone | first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one"])
def test_in_every_layout_the_changes_are_the_same(rows: dict[tuple[str, str], list], layout: str, kind: str) -> None:
    """Sums are in fp64; with factors the weight itself is made in fp32, and its rows' norms are summed over ranks."""
    whole, parts = rows["one", kind], rows[layout, kind]
    assert [row["layer"] for row in parts] == [row["layer"] for row in whole]
    assert [row["rows"] for row in parts] == [row["rows"] for row in whole]
    tolerance = {"rel": 1e-9} if kind == "none" else {"rel": 1e-5, "abs": 1e-5}
    for own, other in zip(parts, whole):
        for name in ("magnitude", "direction", "correlation"):
            assert other[name] != 0
            assert own[name] == pytest.approx(other[name], **tolerance), f"{name} of {own['layer']}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder of short runs: base, fresh, full and dora, the last two once more from their middle on; and a weight of the
    base, and the same after the full fine-tuning.
    """
    from data_pipeline.build import build
    from data_pipeline.config import BuildConfig, CorpusConfig, PageConfig

    folder = tmp_path_factory.mktemp("decomposition")
    corpus = CorpusConfig(
        held_out=["persuasion"], language="en", pages=16, held_out_pages=4, held_out_random_pages=4, shard_pages=16,
        prompt="", page=PageConfig(size=64),
    )  # fmt: skip
    build(BuildConfig(corpus=corpus, out=str(folder / "pages"), workers=1))
    return folder, launch(stages, 1, str(folder / "pages"), str(folder))[0]


@pytest.fixture(scope="module")
def runs(finished: tuple[Path, list[Any]]) -> Path:
    return finished[0]


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "weight_decomposition.jsonl").read_text().splitlines()]


def test_a_run_that_does_not_ask_writes_no_file(runs: Path) -> None:
    assert not (runs / "base" / "weight_decomposition.jsonl").exists()


@pytest.mark.parametrize("name", ["fresh", "full", "dora"])
def test_a_run_tells_how_far_each_layer_has_moved_at_each_look(runs: Path, name: str) -> None:
    found = told(runs / name)
    layers = [f"decoder.decoder.layers.{number}.self_attention.linear_{which}" for number in range(DECODER_LAYERS) for which in ("qkv", "proj")]
    assert [(row["step"], row["layer"]) for row in found] == [(step, layer) for step in (2, 4) for layer in layers]
    turning = [row for row in found if name != "fresh" or row["layer"].endswith("qkv")]  # fresh projections are zero
    assert all(row["direction"] > 0 and -1 <= row["correlation"] <= 1 for row in turning)
    assert all(row["magnitude"] > 0 for row in found)
    first, last = found[: len(layers)], found[len(layers) :]
    assert sum(row["direction"] for row in last) > sum(row["direction"] for row in first)


@pytest.mark.parametrize("name", ["full", "dora"])
def test_started_again_a_run_goes_on_from_the_same_start(runs: Path, name: str) -> None:
    folder = runs / name
    assert (folder / "weight_decomposition.jsonl").read_text() == (folder / "before.jsonl").read_text()


def test_full_fine_tuning_is_measured_against_the_run_it_began_with(finished: tuple[Path, list[Any]]) -> None:
    """The base and the tuned weights are read from the checkpoints of the two runs."""
    runs, weights = finished
    base, tuned = (torch.from_numpy(weight).double() for weight in weights)
    row = told(runs / "full")[-2 * DECODER_LAYERS]
    assert (row["magnitude"], row["direction"], row["correlation"]) == pytest.approx(by_torch(tuned, base), rel=1e-6)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m train.weight_decomposition`."""
    called = [sys.executable, "-m", "train.weight_decomposition", *arguments]
    return subprocess.run(called, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)


def test_the_controlled_comparison_shows_the_signs_of_the_paper_for_every_seed(tmp_path: Path) -> None:
    done = command(f"out={tmp_path}", "seeds=3")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figure.json").read_text())
    signs = {kind: [value > 0 for value in values] for kind, values in found["correlations"].items()}
    assert signs == {"full": [False] * 3, "lora": [True] * 3, "dora": [False] * 3}
    assert min(abs(value) for values in found["correlations"].values() for value in values) > 0.9
    assert Image.open(tmp_path / "figure.png").width > 1000


def test_other_signs_end_in_an_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A task without change of direction leaves nothing to tell apart."""
    from train.weight_decomposition import controlled
    from train.weight_decomposition.command import compare

    monkeypatch.setattr(controlled, "STEPS", 8)
    monkeypatch.setattr(controlled, "STRETCHED", 0.0)
    assert compare(1, tmp_path) == 1
    assert (tmp_path / "figure.png").exists()


def test_real_runs_are_drawn_beside_each_other(runs: Path, tmp_path: Path) -> None:
    done = command(f"runs=[{runs / 'full'},{runs / 'dora'}]", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    series = json.loads((tmp_path / "figure.json").read_text())["series"]
    assert [(one["label"], len(one["rows"])) for one in series] == [("full (full)", 12), ("dora (DoRA)", 12)]
    assert series[1]["rows"] == told(runs / "dora")
    rows = [row for row in series[0]["rows"] if row["step"] == 4]
    expected = torch.corrcoef(torch.tensor([[row["direction"], row["magnitude"]] for row in rows]).double().t())[0, 1]
    assert series[0]["by_step"]["4"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_run_that_never_looked_is_refused_with_what_makes_it_look(runs: Path) -> None:
    done = command(f"runs=[{runs / 'base'}]")
    assert done.returncode == 2 and "stage.weight_decomposition.every=50" in done.stderr


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["stage.weight_decomposition.every=-1"], "must be 0 or more"),
        (["stage.weight_decomposition.every=5", "stage.weight_decomposition.targets=[atention]"], "Did you mean attention?"),
        (["stage.weight_decomposition.every=5", "resume=runs/other"], "Choose stage.weight_decomposition.every=0"),
    ],
)
def test_what_cannot_be_watched_is_refused(typed: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Composer("config", Config).build(typed), world=1, files=False)
    assert told in str(caught.value)


def test_the_report_shows_the_weights_of_a_run_that_looked(runs: Path) -> None:
    page = write_report(runs / "dora").read_text()
    figure = re.search(r"<svg[^>]*aria-label=\"dora \(DoRA\).*?</svg>", page, re.DOTALL)
    assert figure is not None
    ElementTree.fromstring(figure[0])
    assert figure[0].count("<title>") == 12
    summary = json.loads((runs / "dora" / "report.json").read_text())["weight_decomposition"]
    assert summary[0]["stage"] == "dora (DoRA)" and set(summary[0]["by_step"]) == {"2", "4"}
    assert "How weights moved" not in write_report(runs / "base").read_text()
