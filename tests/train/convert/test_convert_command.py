"""`python -m train.convert`, as it is typed: both directions, what it prints, and what a mistake leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conf.command import run
from data_pipeline.tokenizer import load_tokenizer
from parallel import topology
from tests.train.convert.folders import read, released_folder, same_bytes, size, tensors
from train.convert.command import main
from train.convert.config import ConvertConfig, check
from train.convert.names import to_ours
from train.load import load_trained


def convert(*typed: str) -> int:
    """The exit code of the command in this process."""
    return run(main, "convert", ConvertConfig, list(typed), check=check)


def test_in_and_out_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = tensors(size())
    source = released_folder(tmp_path / "released", size(), values, shards=2)
    target, back = tmp_path / "runs" / "imported", tmp_path / "back"
    assert convert(f"from={source}", f"to={target}") == 0
    assert f"{target}: 166 tensors" in capsys.readouterr().out
    assert convert(f"from={target}", f"to={back}", "shard_size=0.0003") == 0
    assert same_bytes(values, read(back)) == []
    assert "model_type=unlimited_ocr" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_checkpoint_folder_is_as_good_as_its_run(tmp_path: Path) -> None:
    source = released_folder(tmp_path / "released", size(), tensors(size()))
    assert convert(f"from={source}", f"to={tmp_path / 'run'}") == 0
    assert (
        convert(f"from={tmp_path / 'run' / 'checkpoints' / 'step-00000000'}", f"to={tmp_path / 'back'}") == 0
    )
    assert same_bytes(read(source), read(tmp_path / "back")) == []


def test_the_imported_run_is_loaded_for_reading(tmp_path: Path) -> None:
    """Weights, tokenizer, mode and lengths are those that came."""
    values = {
        name: torch.nan_to_num(value, posinf=0.0, neginf=0.0) for name, value in tensors(size()).items()
    }
    source = released_folder(tmp_path / "released", size(), values)
    assert convert(f"from={source}", f"to={tmp_path / 'run'}") == 0
    topology.start(topology.Topology(), seed=0)
    try:
        trained = load_trained(tmp_path / "run")
    finally:
        topology.stop()
    expected = to_ours(size(), values)
    experts = trained.model.get_parameter("decoder.decoder.layers.2.mlp.experts.fc1")
    assert torch.equal(
        experts, expected["decoder.decoder.layers.2.mlp.experts.experts.linear_fc1.weight"].float()
    )
    assert torch.equal(trained.model.encoder.newline, values["model.image_newline"].float())
    assert trained.tokenizer.digest == load_tokenizer(str(source / "tokenizer.json")).digest
    assert trained.model.image_token == trained.tokenizer.image
    assert trained.spec.parsed[0].size == 128 and trained.spec.max_length == size().decoder.max_length
    assert trained.config.engine.precision == "bf16"


def test_a_failed_conversion_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = released_folder(tmp_path / "released", size(), tensors(size()))
    weights = next(source.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    assert convert(f"from={source}", f"to={tmp_path / 'runs' / 'imported'}") == 2
    error = capsys.readouterr().err
    assert weights.name in error and "Traceback" not in error
    assert not any((tmp_path / "runs").iterdir())


def test_help_and_mistakes_are_answered_without_torch() -> None:
    for typed, code, said in (
        (["--help"], 0, "deepseek_vl_v2"),
        (["to=x"], 2, "from is not set"),
        (["from=nowhere", "to=x"], 2, "no such folder"),
    ):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "train.convert", *typed],
            capture_output=True,
            text=True,
        )
        assert done.returncode == code and said in done.stdout + done.stderr
        assert "| torch\n" not in done.stderr
