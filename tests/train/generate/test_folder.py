"""Reading into a folder: one file a document, nothing read twice, nothing lost, nothing overwritten.

The reader is a stand-in that says what a page's pixels are, so that a page in the wrong place shows.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conf.errors import ConfigError
from data_pipeline.errors import DataError
from tests.train.generate.paper import pdf, picture
from train.generate.command import survey_files
from train.generate.config import GenerateConfig
from train.generate.folder import read_into_folder
from train.generate.journal import Journal, read_journals
from train.generate.outcome import SEPARATOR, Outcome, Tally
from train.generate.team import Team

ALONE = Team(0, 1, 1)


class Bars:
    """Says how high the black bar of a page is, in tenths of its width. fails_at: the number of the page on which the
    process is stopped; cut: bars whose text has no end.
    """

    def __init__(self, fails_at: int = 10**9, cut: tuple[int, ...] = (), **settings: object) -> None:
        self.fails_at, self.cut, self.own = fails_at, cut, settings
        self.batches: list[int] = []
        self.more = ""

    def settings(self) -> dict[str, object]:
        return {"checkpoint": "x"} | self.own

    def length(self, page: np.ndarray) -> int:
        if page.shape[1] == 40:
            raise DataError("takes 99 positions")
        return page.shape[1]

    def read(self, pages: Sequence[np.ndarray]) -> list[Outcome]:
        if sum(self.batches) + len(pages) > self.fails_at:
            raise KeyboardInterrupt
        self.batches.append(len(pages))
        return [self._read(page) for page in pages]

    def _read(self, page: np.ndarray) -> Outcome:
        bar = round(10 * (page[:, 0] < 128).sum() / page.shape[1])
        return Outcome(
            "cut" if bar in self.cut else "ended",
            f"bar {bar}\n" + self.more,
            5,
            "has no end" if bar in self.cut else "",
        )

    def dismiss(self) -> None:
        pass


def bar(path: Path, tenths: int, width: int = 60) -> Path:
    page = np.full((96, width), 255, np.uint8)
    page[: width * tenths // 10] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(page).save(path)
    return path


def read(root: Path, *inputs: str, reader: Bars | None = None, **options: object) -> Tally:
    config = GenerateConfig(
        checkpoint="x", image=[str(root / text) for text in inputs], out=str(root / "out")
    )
    config.batch_size, config.dpi = 2, 72
    for name, value in options.items():
        setattr(config, name, value)
    documents, failures = survey_files(config)
    total = read_into_folder(config, ALONE, documents, reader or Bars())  # type: ignore[arg-type]
    total.failed += len(failures)
    return total


def texts(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root / "out")): path.read_text() for path in sorted((root / "out").rglob("*.md"))
    }


def bars_of(*pages: int) -> str:
    return SEPARATOR.join(f"bar {page}" for page in pages) + "\n"


def test_each_document_becomes_one_file_with_its_pages_in_order(tmp_path: Path) -> None:
    pdf(tmp_path / "in/book.pdf", 5)
    bar(tmp_path / "in/a/one.png", 3)
    bar(tmp_path / "in/b/one.png", 7)
    tally = read(tmp_path, "in")
    assert texts(tmp_path) == {
        "a/one.md": "bar 3\n",
        "b/one.md": "bar 7\n",
        "book.md": bars_of(1, 2, 3, 4, 5),
    }
    assert (tally.ended, tally.failed, tally.tokens) == (7, 0, 35)
    assert "\n\n<--- Page Split --->\n" in texts(tmp_path)["book.md"]


def test_pages_are_chosen(tmp_path: Path) -> None:
    pdf(tmp_path / "book.pdf", 6)
    read(tmp_path, "book.pdf", pages="5,2-3")
    assert texts(tmp_path) == {"book.md": bars_of(2, 3, 5)}
    reader = Bars()
    read(tmp_path, "book.pdf", pages="1-3", reader=reader)  # a choice is no setting: what was read stays read
    assert reader.batches == [1] and texts(tmp_path) == {"book.md": bars_of(1, 2, 3)}


def test_after_a_stop_the_same_command_reads_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pdf(tmp_path / "in/book.pdf", 5)
    bar(tmp_path / "in/z.png", 3)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, "in", reader=Bars(fails_at=4))
    assert (
        f"4 of 6 pages are kept in {tmp_path}/out; the same command reads the others"
        in capsys.readouterr().err
    )
    assert texts(tmp_path) == {}  # no document is whole
    reader = Bars()
    tally = read(tmp_path, "in", reader=reader)
    assert sum(reader.batches) == 2 and (tally.ended, tally.kept) == (2, 4)
    assert texts(tmp_path) == {"book.md": bars_of(1, 2, 3, 4, 5), "z.md": "bar 3\n"}
    (tmp_path / "out/book.md").unlink()
    again = Bars()
    assert read(tmp_path, "in", reader=again).kept == 6
    assert again.batches == [] and texts(tmp_path)["book.md"] == bars_of(1, 2, 3, 4, 5)


def test_a_line_that_a_kill_cut_short_is_read_again(tmp_path: Path) -> None:
    bar(tmp_path / "a.png", 2)
    bar(tmp_path / "b.png", 4)
    read(tmp_path, "a.png", "b.png")
    journal = tmp_path / "out/journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    reader = Bars()
    read(tmp_path, "a.png", "b.png", reader=reader)
    assert reader.batches == [1] and texts(tmp_path) == {"a.md": "bar 2\n", "b.md": "bar 4\n"}
    assert len(read_journals(tmp_path / "out").outcomes) == 2


def test_a_text_may_hold_any_sign(tmp_path: Path) -> None:
    bar(tmp_path / "a.png", 2)
    reader = Bars()
    reader.more = "\u2028 \x85 \x0c \x1c \r\n \u2029 \0 x"
    read(tmp_path, "a.png", reader=reader)
    assert (tmp_path / "out/a.md").read_bytes().decode() == "bar 2\n" + reader.more + "\n"
    (tmp_path / "out/a.md").unlink()
    assert read(tmp_path, "a.png").kept == 1
    assert (tmp_path / "out/a.md").read_bytes().decode() == "bar 2\n" + reader.more + "\n"


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    bar(tmp_path / "a.png", 2)
    read(tmp_path, "a.png")
    bar(tmp_path / "a.png", 4)
    assert read(tmp_path, "a.png").ended == 1
    assert texts(tmp_path) == {"a.md": "bar 4\n"}


def test_what_cannot_be_read_is_named_the_rest_is_done_and_a_second_try_needs_only_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pdf(tmp_path / "in/book.pdf", 3, blank=(2,))
    bar(tmp_path / "in/fine.png", 3)
    bar(tmp_path / "in/long.png", 9)
    bar(tmp_path / "in/narrow.png", 1, width=40)
    (tmp_path / "in/text.png").write_text("no picture")
    (tmp_path / "in/nothing.pdf").write_bytes(b"")
    Image.fromarray(np.zeros((10000, 1), np.uint8)).save(tmp_path / "in/strip.png")
    tally = read(tmp_path, "in", reader=Bars(cut=(9,)))
    assert (tally.ended, tally.cut, tally.blank, tally.failed) == (3, 1, 1, 4)
    assert texts(tmp_path) == {
        "book.md": f"bar 1{SEPARATOR}{SEPARATOR}bar 3\n",
        "fine.md": "bar 3\n",
        "long.md": "bar 9\n",
    }
    told = capsys.readouterr().err
    for line in ("book.pdf, page 2: is blank", "long.png: has no end", "narrow.png: takes 99 positions",
                 "text.png: is neither a picture nor a PDF", "strip.png: 1 x 10000 pixels are no page"):  # fmt: skip
        assert f"{tmp_path}/in/{line}" in told
    bar(tmp_path / "in/text.png", 5)
    reader = Bars()
    tally = read(tmp_path, "in", reader=reader)
    assert reader.batches == [1] and tally.failed == 3 and texts(tmp_path)["text.md"] == "bar 5\n"


def test_a_page_that_failed_leaves_a_mark_where_it_would_stand(tmp_path: Path) -> None:
    first = Image.fromarray(np.full((80, 60), 255, np.uint8) * (np.arange(80) > 20)[:, None].astype(np.uint8))
    narrow = Image.fromarray(np.zeros((80, 40), np.uint8) + (np.arange(40) * 5).astype(np.uint8))
    first.save(tmp_path / "scan.tif", save_all=True, append_images=[narrow, first])
    tally = read(tmp_path, "scan.tif")
    assert (tally.ended, tally.failed) == (2, 1)
    pages = texts(tmp_path)["scan.md"].split(SEPARATOR)
    assert (
        pages[1] == "<!-- page 2 was not read: takes 99 positions -->" and pages[0] == pages[2].rstrip() != ""
    )


def test_other_settings_are_refused_until_asked_to_start_again(tmp_path: Path) -> None:
    bar(tmp_path / "a.png", 2)
    read(tmp_path, "a.png", reader=Bars(temperature=0.0))
    with pytest.raises(ConfigError, match=r"temperature: 0.0 → 0.5\n.*restart=true"):
        read(tmp_path, "a.png", reader=Bars(temperature=0.5))
    again = Bars(temperature=0.5)
    read(tmp_path, "a.png", reader=again, restart=True)
    assert again.batches == [1] and list(texts(tmp_path)) == ["a.md"]
    assert read(tmp_path, "a.png", reader=Bars(temperature=0.5)).kept == 1


def test_files_of_equal_name_and_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    bar(tmp_path / "x/a.png", 2)
    bar(tmp_path / "y/a.png", 4)
    bar(tmp_path / "notes.png", 6)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.md").write_text("mine")
    read(tmp_path, "x/a.png", "notes.png")
    read(tmp_path, "y/a.png")  # by a later call
    assert texts(tmp_path) == {
        "a.md": "bar 2\n",
        "a.png.md": "bar 4\n",
        "notes.md": "mine",
        "notes.png.md": "bar 6\n",
    }


def test_two_calls_do_not_write_to_one_folder(tmp_path: Path) -> None:
    bar(tmp_path / "a.png", 2)
    other = Journal(tmp_path / "out")
    with pytest.raises(ConfigError, match="another process is writing there"):
        read(tmp_path, "a.png")
    other.close()
    assert read(tmp_path, "a.png").ended == 1


def test_the_journal_is_plain_json_lines(tmp_path: Path) -> None:
    bar(tmp_path / "ä.png", 2)
    read(tmp_path, "ä.png")
    lines = [json.loads(line) for line in (tmp_path / "out/journal.jsonl").read_text().splitlines()]
    assert lines[0] == {"settings": {"checkpoint": "x"}}
    assert lines[1] == {"document": str((tmp_path / "ä.png").resolve()), "name": "ä"}
    assert (lines[2]["page"], lines[2]["kind"], lines[2]["text"], lines[2]["tokens"]) == (
        1,
        "ended",
        "bar 2\n",
        5,
    )


def test_what_several_processes_read_of_a_document_is_put_together(tmp_path: Path) -> None:
    """Each has its share of the pages and a journal of its own; here one does both shares after the other."""
    pdf(tmp_path / "in/book.pdf", 5)
    picture(tmp_path / "in/one.png")
    config = GenerateConfig(
        checkpoint="x", image=[str(tmp_path / "in")], out=str(tmp_path / "out"), dpi=72, batch_size=2
    )
    documents, _ = survey_files(config)

    class Second(Team):
        def from_first(self, make):
            return prepared

        def gather(self, value):
            return [value]

    class First(Team):
        def from_first(self, make):
            prepared[:] = make()
            return prepared

        def gather(self, value):  # the second process ends before the first
            read_into_folder(config, Second(1, 2, 1), documents, Bars())  # type: ignore[arg-type]
            (tmp_path / "out/book.md").unlink(missing_ok=True)
            return [value]

    prepared: list = []
    read_into_folder(config, First(0, 2, 1), documents, Bars())  # type: ignore[arg-type]
    assert texts(tmp_path)["book.md"] == bars_of(1, 2, 3, 4, 5) and set(texts(tmp_path)) == {
        "book.md",
        "one.md",
    }
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jsonl")) == [
        "journal.1.jsonl",
        "journal.jsonl",
    ]
    reader = Bars()
    assert read(tmp_path, "in", reader=reader).kept == 6 and reader.batches == []  # by one process, then
