"""An evaluation that was stopped goes on where it was, and never with what was read under other conditions."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.evaluate.reading_run import Oracle, source_of, suite_of
from tests.train.shard_set import make_records, write_shard_set
from train.evaluate import reading
from train.evaluate.journal import NAME, load
from train.model.optical import OpticalModel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard_set(tmp_path / "ratio-2", make_records(8))
    write_shard_set(tmp_path / "random-2", make_records(4, seed=1))
    return tmp_path


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    found = Oracle([*make_records(8), *make_records(4, seed=1)])
    monkeypatch.setattr(reading, "read", found)
    return found


def run(model: OpticalModel, folder: Path, mode: str = "64", **options: Any) -> Any:
    suite = suite_of(model, folder / "out", found=load(folder / "out"), **options)
    result = suite([source_of(folder)], [mode], mode)
    suite.reader.journal.finish()
    return result


def test_a_stopped_evaluation_reads_only_what_is_missing(
    model: OpticalModel, folder: Path, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    def stops(*args: Any) -> Any:
        if oracle.asked >= 5:  # the blank page and one batch of four
            raise Stopped
        return oracle(*args)

    monkeypatch.setattr(reading, "read", stops)
    with pytest.raises(Stopped):
        run(model, folder)
    assert len(load(folder / "out")) == 5
    with (folder / "out" / NAME).open("a") as file:
        file.write('{"id": "half a li')  # what a kill leaves
    monkeypatch.setattr(reading, "read", oracle)
    oracle.asked = 0
    again = run(model, folder)
    assert oracle.asked == 13 - 5
    fresh = folder / "fresh"
    write_shard_set(fresh / "ratio-2", make_records(8))
    write_shard_set(fresh / "random-2", make_records(4, seed=1))
    assert run(model, fresh).bins == again.bins


def test_a_finished_evaluation_is_read_from_its_journal(
    model: OpticalModel, folder: Path, oracle: Oracle
) -> None:
    first = run(model, folder)
    assert oracle.asked == 13
    assert run(model, folder).curve == first.curve and oracle.asked == 13
    lines = [json.loads(line) for line in (folder / "out" / NAME).read_text().splitlines()]
    assert len(lines) == 13 and {line["source"] for line in lines} == {"ratio-2", "random-2"}


@pytest.mark.parametrize(
    "other",
    [{"settings": {"checkpoint": "another"}}, {"mode": "32"}, {"limit": 3}, {"settings": {"cache": "int8"}}],
)
def test_other_conditions_read_everything_anew(
    model: OpticalModel, folder: Path, oracle: Oracle, other: dict[str, Any]
) -> None:
    run(model, folder)
    run(model, folder, **other)
    assert oracle.asked == 26


def test_changed_pages_are_read_anew(model: OpticalModel, folder: Path, oracle: Oracle) -> None:
    run(model, folder)
    changed = folder / "changed"
    write_shard_set(changed / "ratio-2", make_records(8, seed=5))
    write_shard_set(changed / "random-2", make_records(4, seed=1))
    (folder / "out").rename(changed / "out")
    run(model, changed)
    assert oracle.asked == 13 + 8 + 1  # of the random text, only what is the same is known


def test_the_files_of_all_ranks_are_read_and_become_one(
    model: OpticalModel, folder: Path, oracle: Oracle
) -> None:
    run(model, folder)
    journal = folder / "out" / NAME
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:6]))
    (folder / "out" / "readings.rank-1.jsonl").write_text("".join(lines[6:]))
    run(model, folder)
    assert oracle.asked == 13
    assert [path.name for path in (folder / "out").glob("readings*")] == [NAME]
    assert sorted(journal.read_text().splitlines(keepends=True)) == sorted(lines)
