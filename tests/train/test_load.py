"""A checkpoint is found by any path that means it; of a recipe the newest finished stage is taken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.errors import UserError
from parallel import topology
from tests.train.generate.tiny_run import TINY, write_run
from train.find_run import locate, newest_finished_stage
from train.load import load_trained


def recipe(folder: Path, **states: str) -> Path:
    """A recipe's folder with a stage for each state, and the steps that are none."""
    for name in states:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.yaml").write_text("seed: 0")
    steps = [{"name": name, "state": state} for name, state in states.items()]
    extra = [{"name": "build", "state": "done"}, *steps, {"name": "evaluate", "state": "done"}]
    (folder / "recipe.json").write_text(json.dumps({"name": "smoke", "steps": extra}))
    return folder


def test_of_a_recipe_the_newest_finished_stage_is_taken(tmp_path: Path) -> None:
    done = recipe(tmp_path / "done", encoder="done", pretrain="done")
    found = locate(done)
    assert (found.folder, found.checkpoints) == (done / "pretrain", done / "pretrain/checkpoints")
    assert (
        found.choice() == f"checkpoint={done} is a recipe: takes its newest finished stage, {done}/pretrain"
    )
    assert locate(done / "checkpoints") == found  # a recipe has none of its own
    half = recipe(tmp_path / "half", encoder="done", pretrain="interrupted")
    assert locate(half).folder == half / "encoder"
    assert newest_finished_stage(tmp_path) is None


def test_a_run_and_what_lies_in_it_are_found_without_a_choice(tmp_path: Path) -> None:
    run = recipe(tmp_path / "smoke", pretrain="done") / "pretrain"
    step = run / "checkpoints/step-00000003"
    step.mkdir(parents=True)
    assert locate(run).checkpoints == run / "checkpoints"
    assert (locate(step.parent).folder.resolve(), locate(step.parent).checkpoints) == (
        run.resolve(),
        step.parent,
    )
    assert locate(step).checkpoints == step and locate(step).choice() is None


def test_paths_that_mean_no_run_are_refused_with_what_to_choose(tmp_path: Path) -> None:
    begun = recipe(tmp_path / "begun", encoder="running", pretrain="waiting")
    with pytest.raises(UserError, match="choose checkpoint=.*/encoder or checkpoint=.*/pretrain"):
        locate(begun)
    with pytest.raises(UserError, match="draft=.*: no such folder"):
        locate(tmp_path / "nothing", "draft")
    with pytest.raises(UserError, match="no such folder"):
        locate(tmp_path / "nothing/checkpoints")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run here"):
        locate(tmp_path / "empty")
    (tmp_path / "empty/recipe.json").write_text("[")
    with pytest.raises(UserError, match="no run here"):
        locate(tmp_path / "empty")


def test_finding_a_run_loads_no_torch() -> None:
    code = "import sys, train.find_run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_the_model_is_loaded_with_what_it_takes_and_the_choice_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recipe(tmp_path / "smoke", encoder="done")
    (folder / "encoder/config.yaml").unlink()
    (folder / "encoder").rmdir()
    topology.start(topology.Topology(), seed=0)
    try:
        write_run(folder / "encoder")
        trained = load_trained(folder)
        assert "takes its newest finished stage" in capsys.readouterr().err
        assert (trained.step, trained.spec.modes, trained.spec.max_length) == (7, ("64", "32"), 96)
        assert trained.config.model == TINY and not trained.model.training
        (folder / "encoder/checkpoints/latest").unlink()
        for path in sorted((folder / "encoder/checkpoints").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with pytest.raises(UserError, match="has no checkpoint yet"):
            load_trained(folder / "encoder")
    finally:
        topology.stop()
