"""`python -m train.surgery`, as it is typed: the run that it writes, the command that it prints, and what a mistake gets."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from conf.command import run
from conf.compose import Composer
from conf.errors import ConfigError
from data_pipeline.data_config import SourceConfig
from parallel import checkpoint, topology
from tests.train.generate.tiny_run import TINY, write_run
from tests.train.shard_set import make_records, write_shard_set
from train.config import Config, StageConfig, TuneConfig
from train.find_run import read_config
from train.launch.signals import StopFlag
from train.load import load_trained
from train.surgery.command import main
from train.surgery.config import SurgeryConfig, check
from train.validate import validate


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 2 layers, the first dense, the second with 4 experts."""
    topology.start(topology.Topology(), seed=0)
    folder = write_run(tmp_path_factory.mktemp("runs") / "parent")
    topology.stop()
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 12 pages of 64 pixels."""
    return write_shard_set(tmp_path_factory.mktemp("shards") / "pages", make_records(12))


@pytest.fixture
def one_process() -> Iterator[None]:
    """Process groups of one process, when the command has left its own."""
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


def surgery(*typed: str) -> int:
    """The exit code of the command in this process."""
    return run(main, "surgery", SurgeryConfig, list(typed), check=check)


def next_command(said: str) -> list[str]:
    """The overrides of the stage that was printed last."""
    (line,) = [line for line in said.splitlines() if line.startswith("next: python -m train ")]
    return line.removeprefix("next: python -m train ").split()


EVERYTHING = (
    "prune.ffn=24", "prune.experts=3", "prune.expert_ffn=12", "prune.heads=1", "prune.width=24", "prune.window_heads=1",
    "prune.window_mlp=8", "prune.global_mlp=12", "grow.global_depth=2", "grow.experts=6", "factorize.ffn=8", "factorize.attention=6",
)  # fmt: skip


def test_a_student_is_written_read_and_trained_on(
    parent: Path, pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "student"
    assert (
        surgery(f"from={parent}", f"to={target}", f"data={pages}", "pages=10", "batch_size=4", *EVERYTHING)
        == 0
    )
    said = capsys.readouterr().out
    assert "model.decoder.ffn: 32 → 24" in said and "% of the" in said
    assert [path.name for path in tmp_path.iterdir()] == ["student"]

    typed = [
        part if not part.startswith("from=") else f"stage.start_from={part[5:]}"
        for part in next_command(said)
    ]
    assert (
        typed[:2] == ["stage=distill", f"distill.teacher={parent}"] and f"stage.start_from={target}" in typed
    )
    data = [f"data.root={pages}", f"+data.train.mine.path={pages}", "data.modes=['64']", "data.max_length=96"]
    own = [
        "data=folder", "~data.train.folder", "~data.held_out.folder", *data, f"+data.held_out.mine.path={pages}",
        "data.pack=false", "data.global_batch=4", "data.micro_batch=4", "stage.steps=2", "stage.evaluation_pages=2",
        "optim.warmup_steps=0", f"run.directory={tmp_path}", "run.name=next", "model.decoder.max_length=96",
    ]  # fmt: skip
    config = Composer("config", Config).build([*(part for part in typed if "distill" not in part), *own])
    validate(config, world=1)
    topology.start(topology.Topology(), seed=0)
    try:
        trained = load_trained(target)
        decoder, encoder = trained.config.model.decoder, trained.config.model.encoder
        assert (decoder.width, decoder.heads, decoder.head_width, decoder.experts) == (24, 1, 16, 6)
        assert (decoder.experts_per_token, decoder.attention_rank, encoder.window_head_width) == (4, 6, 8)
        assert (trained.step, trained.spec.modes) == (0, ("64", "32"))

        from train import stage

        done = stage.run(config, StopFlag())
        assert done.finished and done.step == 2
        before, after = (weights(folder) for folder in (target, done.folder))
        assert before.keys() <= after.keys() and not torch.equal(before[ROUTER], after[ROUTER])
    finally:
        topology.stop()


ROUTER = "model.decoder.decoder.layers.1.mlp.router.weight"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every weight of a run's newest checkpoint."""
    from parallel import pieces as store

    newest = checkpoint.require(folder)
    pieces = [
        store.Piece.whole(key, torch.empty(entry.size, dtype=entry.properties.dtype))
        for key, entry in store.contents(newest).items()
        if key.startswith("model.")
    ]
    store.read(newest, pieces)
    return {piece.key: piece.tensor for piece in pieces}


def test_a_stage_of_another_size_is_told_what_to_type(parent: Path, pages: Path, tmp_path: Path) -> None:
    assert (
        surgery(
            f"from={parent}",
            f"to={tmp_path / 'small'}",
            "prune.layers=1",
            "prune.ffn=16",
            "importance=magnitude",
        )
        == 0
    )
    config = stage_config(pages, tmp_path, StageConfig(start_from=str(tmp_path / "small" / "checkpoints")))
    with pytest.raises(ConfigError) as raised:
        validate(config, world=1)
    wanted = str(raised.value).split("Add ")[1].split()
    assert wanted == ["model.decoder.layers=1", "model.decoder.ffn=16", "model.decoder.dense_layers=0"]
    # What may change from stage to stage is no fault.
    longer = replace(TINY, name="mine", decoder=replace(TINY.decoder, max_length=960, aux_loss=0.1))
    config.stage.start_from, config.model = str(parent), longer
    validate(config, world=1)


def test_a_larger_model_reads_as_the_parent_did(parent: Path, tmp_path: Path, one_process: None) -> None:
    """Through `train.load`, as generation and evaluation read; fp32 roundings of sums over more terms."""
    topology.stop()
    grown = (
        "grow.layers=4",
        "grow.heads=4",
        "grow.ffn=64",
        "grow.experts=8",
        "grow.width=48",
        "grow.window_depth=2",
    )
    assert surgery(f"from={parent}", f"to={tmp_path / 'large'}", *grown) == 0
    topology.start(topology.Topology(), seed=0)
    from tests.train.model.peer_model import page_batch

    logits = []
    for folder in (parent, tmp_path / "large"):
        trained = load_trained(folder)
        with torch.no_grad():
            logits.append(trained.model(page_batch(TINY, ["64"], [(60, 60), (40, 64)], seed=0)).logits)
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-5 * logits[0].abs().max().item())


def test_factors_and_pruning_follow_the_pages(parent: Path, pages: Path, tmp_path: Path) -> None:
    """The same sizes by pages and by the weights alone: other numbers, in each kind of operation."""
    for importance in ("activations", "magnitude"):
        typed = (f"from={parent}", f"data={pages}", f"importance={importance}")
        ranks, sizes = ("factorize.attention=6", "factorize.ffn=6"), ("prune.ffn=16", "prune.expert_ffn=8")
        assert surgery(*typed, f"to={tmp_path / importance / 'factored'}", *ranks) == 0
        assert surgery(*typed, f"to={tmp_path / importance / 'pruned'}", *sizes) == 0
    topology.start(topology.Topology(), seed=0)
    try:
        for name, end in (("factored", ".narrow.weight"), ("pruned", "linear_fc1.weight")):
            one, other = (
                weights(tmp_path / importance / name) for importance in ("activations", "magnitude")
            )
            changed = [key for key in one if key.endswith(end) and one[key].shape == other[key].shape]
            assert len(changed) >= 2 and not any(
                torch.allclose(one[key], other[key], atol=1e-4) for key in changed
            )
    finally:
        topology.stop()


def test_factors_of_a_run_are_worked_into_its_weights(parent: Path, pages: Path, tmp_path: Path) -> None:
    """A run of LoRA is taken as it reads, factors included."""
    from train import stage

    config = stage_config(
        pages, tmp_path, StageConfig(name="tune", steps=1, start_from=str(parent), evaluation_pages=2)
    )
    config.tune, config.run.name = TuneConfig(kind="lora", rank=2), "lora"
    topology.start(topology.Topology(), seed=0)
    try:
        stage.run(config, StopFlag())
    finally:
        topology.stop()
    assert surgery(f"from={tmp_path / 'lora'}", f"to={tmp_path / 'same'}", "grow.ffn=64") == 0
    topology.start(topology.Topology(), seed=0)
    key = "model.decoder.decoder.layers.1.self_attention.linear_proj.weight"
    try:
        tuned, base, merged = (weights(folder) for folder in (tmp_path / "lora", parent, tmp_path / "same"))
    finally:
        topology.stop()
    assert any("transforms" in name for name in tuned) and merged.keys() == base.keys()
    moved = merged[key] - base[key]
    assert moved.abs().max() > 1e-3 and torch.linalg.matrix_rank(moved, atol=1e-4) <= 2


def test_a_run_that_reads_through_adapters_is_refused(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(parent, tmp_path / "adapted")
    config = read_config(parent / "config.yaml")
    config.tune, config.stage.start_from = TuneConfig(kind="adapter"), "runs/base"
    (tmp_path / "adapted" / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    assert surgery(f"from={tmp_path / 'adapted'}", f"to={tmp_path / 'new'}", "grow.ffn=64") == 2
    said = capsys.readouterr().err
    assert "tune=adapter added, which cannot be worked into its weights" in said and "runs/base" in said
    assert not (tmp_path / "new").exists()


def stage_config(pages: Path, directory: Path, stage: StageConfig) -> Config:
    """A short stage of the tiny model on `pages`."""
    config = Config(model=TINY, stage=stage)
    config.optim.warmup_steps, config.optim.lr, config.run.directory = 0, 0.1, str(directory)
    data = config.data
    data.modes, data.max_length, data.global_batch, data.micro_batch = ["64"], 96, 4, 4
    data.train, data.held_out = {"mine": SourceConfig(str(pages))}, {"mine": SourceConfig(str(pages))}
    return config


REFUSED = {
    ("prune.heads=3",): "prune.heads=3: the model has 2. Choose prune.heads=1 to 2, or grow.heads=3",
    ("prune.experts=1",): "add prune.experts_per_token=1",
    ("prune.layers=0",): "choose prune.layers=1 to 2",
    ("grow.experts=6",): "Choose grow.experts=8",
    ("grow.ffn=16",): "or prune.ffn=16",
    ("upcycle.experts=8",): "grow.experts=8",
    ("factorize.ffn=300",): "choose factorize.ffn=1 to 32",
    ("prune.head=1",): "prune.heads",
    (): "nothing to do",
    ("grow.heads=3", "new_layers=stak"): "new_layers=stack",
    ("prune.ffn=16",): "Give data=FOLDER of a shard set, or importance=magnitude",
    ("prune.ffn=16", "data=nowhere"): "no shards there",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_cannot_be_is_refused_with_what_would_do(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: tuple[str, ...]
) -> None:
    assert surgery(f"from={parent}", f"to={tmp_path / 'new'}", *typed) == 2
    assert REFUSED[typed].lower() in capsys.readouterr().err.lower()
    assert not (tmp_path / "new").exists()


def test_a_target_in_use_and_a_run_without_a_checkpoint_are_refused(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert surgery(f"from={parent}", f"to={parent}", "grow.ffn=64") == 2
    assert "exists and is not empty" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_bytes((parent / "config.yaml").read_bytes())
    assert surgery(f"from={empty}", f"to={tmp_path / 'new'}", "grow.ffn=64") == 2
    assert "no checkpoint there" in capsys.readouterr().err
    assert surgery("from=nowhere", f"to={tmp_path / 'new'}", "grow.ffn=64") == 2
    assert "no such folder" in capsys.readouterr().err


def test_help_and_mistakes_are_answered_without_torch() -> None:
    for typed, code, said in (
        (["--help"], 0, "prune.window_heads"),
        (["to=x"], 2, "from is not set"),
        (["from=nowhere", "to=x"], 2, "no such folder"),
    ):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "train.surgery", *typed],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code and said in done.stdout + done.stderr
        assert "| torch\n" not in done.stderr
