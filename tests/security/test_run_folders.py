"""Run folders that a stranger made: settings, tokenizers, states and links in them read nothing else, run nothing, hang nothing."""

import json
import os
from pathlib import Path

import pytest

from conf.errors import ConfigError
from data_pipeline.errors import DataError, UserError
from data_pipeline.tokenizer import load_tokenizer
from tests.security.crafted import DEEP, pipe, running
from train.find_run import locate, newest_finished_stage, read_config
from train.run_folder import read_json, read_rows
from train.run_lock import LOCK, _taken
from train.runs.find import found_runs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run:\n  name: ${oc.env:SECRET}\n", "interpolations"),
        ("run:\n  name: ${oc.decode:'[1]'}\n", "interpolations"),
        ("run: !!python/object/apply:os.system ['touch MARK']\n", "constructor"),
        ("run: !!python/name:os.system\n", "constructor"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
        ("- " * 200_000, "levels"),
        ("[" * 1_000, "levels"),
        ("[" * 100_000, "brackets"),
        ("a" * (2 << 20), "at most"),
        ("run:\n  _target_: os.system\n", "_target_"),
        ("model:\n  decoder:\n    width: [1]\n", "decoder"),
        ("7", "no mapping"),
        ("\x00", "not the configuration"),
    ],
)
def test_settings_are_values_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("SECRET", "hidden-word")
    mark = tmp_path / "owned"
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("MARK", str(mark)))
    with pytest.raises(UserError, match=rf"config\.yaml.*{said}") as error:
        read_config(path)
    assert not mark.exists() and "hidden-word" not in str(error.value)


def test_pipes_and_devices_in_the_place_of_files_are_not_waited_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "status.json", "metrics.jsonl", "recipe.json", ".lock", "wandb_id"):
        pipe(run / name)
    with pytest.raises(UserError, match=r"config\.yaml.*no plain file"):
        read_config(run / "config.yaml")
    assert read_json(run / "status.json") is None and read_rows(run / "metrics.jsonl") == []
    assert [row.state for row in found_runs(tmp_path)] == ["unknown"]
    (tmp_path / "zero").symlink_to("/dev/zero")
    for given in (run / "status.json", tmp_path / "zero"):
        with pytest.raises(DataError, match="no plain file"):
            load_tokenizer(str(given))


@pytest.mark.parametrize("content", [DEEP, b'{"model": {"type": "Evil"}}', b"\x80\x04.", b"null"])
def test_a_tokenizer_that_is_none_is_one_message(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content + running(tmp_path / "owned"))
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load_tokenizer(str(path))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load_tokenizer(str(path))
    assert not (tmp_path / "owned").exists()


def test_a_recipe_s_ledger_names_folders_that_are_runs_or_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    for steps in (
        [{"name": "../../etc", "state": "done"}],
        [{"name": "a\x00b", "state": "done"}],
        [7],
        "text",
        {"a": 1},
    ):
        (recipe / "recipe.json").write_text(json.dumps({"steps": steps}))
        assert newest_finished_stage(recipe) is None
        with pytest.raises(UserError, match="no run here"):
            locate(recipe)
    (recipe / "recipe.json").write_bytes(DEEP)
    assert newest_finished_stage(recipe) is None


def test_a_run_does_not_write_through_links_out_of_its_folder(tmp_path: Path) -> None:
    """Training in a folder that came in an archive: its links would let a run cut and append to any file of the user."""
    precious = tmp_path / "precious"
    for name in (LOCK, "metrics.jsonl", "status.json"):
        precious.write_text("mine")
        run = tmp_path / f"run-{name}"
        run.mkdir()
        (run / name).symlink_to(os.path.relpath(precious, run))
        descriptor, trouble = _taken(run)
        assert descriptor is None and "is a link to a file outside" in trouble and name in trouble
        assert precious.read_text() == "mine"
    (tmp_path / "disk").mkdir()
    own = tmp_path / "own"
    own.mkdir()
    (own / "checkpoints").symlink_to(tmp_path / "disk")  # people put these elsewhere
    (own / "run.wandb").symlink_to("offline/run.wandb")
    descriptor, trouble = _taken(own)
    assert not trouble and descriptor is not None
    os.close(descriptor)


def test_a_chain_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path)
    assert found_runs(tmp_path) == []
    with pytest.raises((UserError, ConfigError)):
        locate(tmp_path / "a")
