"""Lines that cannot be written wait, in order, and are told about once."""

import json
import shutil
from pathlib import Path

from data_pipeline.lines import Lines


def rows(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def test_what_could_not_be_written_comes_first_when_it_can(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "folder" / "log.jsonl"
    (tmp_path / "folder").write_text("a file in the way")
    lines = Lines(path, said.append)
    lines.append([{"n": 1}, {"n": 2}])
    lines.append([{"n": 3}])
    assert said == [f"{path} cannot be written (File exists): its lines wait in memory until it can"]
    (tmp_path / "folder").unlink()
    lines.append([{"n": 4}])
    assert rows(path) == [1, 2, 3, 4]
    assert said[1:] == [f"{path} is written again; no line is missing"]


def test_what_never_could_be_written_is_counted_at_the_end(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "folder").write_text("a file in the way")
    lines = Lines(tmp_path / "folder" / "log.jsonl", said.append)
    lines.append([{"n": 1}, {"n": 2}])
    lines.close()
    lines.close()
    assert len(said) == 2 and said[1].endswith("its last 2 lines could not be written and are lost")


def test_a_file_that_was_removed_is_made_again_and_two_may_append(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "folder" / "log.jsonl"
    one, other = Lines(path, said.append), Lines(path, said.append)
    one.append([{"n": 1}])
    other.append([{"n": 2}])
    one.append([{"n": 3}])
    assert rows(path) == [1, 2, 3] and said == []
    shutil.rmtree(path.parent)
    one.append([{"n": 4}])
    assert rows(path) == [4]
    assert said == [f"{path} was removed while the run wrote it: it goes on in a new file, without what was in it"]
