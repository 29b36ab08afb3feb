"""`image=` finds what it names, once; texts get names that no other text has; pages are chosen by number."""

from pathlib import Path

import pytest

from conf.errors import ConfigError
from data_pipeline.errors import DataError
from train.generate.documents import Document, Found, chosen, find, names, survey


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def places(found: list[Found]) -> list[str]:
    return [str(item.place) for item in found]


def test_files_folders_patterns_and_lists_are_found_each_file_once(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a.png",
        "in/b.PDF",
        "in/deep/c.jpg",
        "in/notes.txt",
        "in/.hidden.png",
        "in/.cache/d.png",
        "odd,name.png",
    )
    assert places(find([f"{tmp_path}/a.png"])) == ["a.png"]
    assert places(find([f"{tmp_path}/in"])) == ["b.PDF", "deep/c.jpg"]
    assert places(find([f"{tmp_path}/*.png"])) == ["a.png", "odd,name.png"]
    assert places(find([f"{tmp_path}/in/*/*.jpg"])) == ["deep/c.jpg"]  # below the part without a star
    assert places(find([f"{tmp_path}/**/*.jpg"])) == ["in/deep/c.jpg"]
    assert places(find([f"{tmp_path}/a.png,{tmp_path}/in"])) == ["a.png", "b.PDF", "deep/c.jpg"]
    assert places(find([f"{tmp_path}/odd,name.png"])) == ["odd,name.png"]
    assert places(find([f"{tmp_path}/in", f"{tmp_path}/in/b.PDF", f"{tmp_path}/in/../a.png"])) == [
        "b.PDF",
        "deep/c.jpg",
        "a.png",
    ]
    assert places(find([f"{tmp_path}/in/notes.txt"])) == ["notes.txt"]  # named itself: it may be a picture


def test_an_input_that_names_nothing_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "in/notes.txt")
    for text, message in ((f"{tmp_path}/no.png", "no such file"), (f"{tmp_path}/*.png", "no such file matches"),
                          (f"{tmp_path}/in", "no picture and no PDF")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            find([text])


@pytest.mark.parametrize(
    ("choice", "count", "pages"),
    [(None, 3, (1, 2, 3)), ("1-3,7", 9, (1, 2, 3, 7)), ("7,1-2,2", 9, (1, 2, 7)), ("5-", 6, (5, 6)), ("2-9", 4, (2, 3, 4)),
     ("8", 4, ()), (" 1 , 3 ", 4, (1, 3))],
)  # fmt: skip
def test_pages_are_chosen_by_numbers_and_ranges(choice: str, count: int, pages: tuple[int, ...]) -> None:
    assert chosen(choice, count) == pages


@pytest.mark.parametrize("choice", ["", "a", "3-1", "0", "1,,2", "-3", "1 2", "0-2"])
def test_what_is_no_choice_of_pages_is_refused(choice: str) -> None:
    with pytest.raises(ConfigError, match="pages="):
        chosen(choice, 5)


def documents(root: Path, *inputs: str) -> list[Document]:
    found, failures = survey(find([str(root / text) for text in inputs]), None, lambda path: 1)
    assert not failures
    return found


def named(documents: list[Document], **others: dict) -> list[str]:
    result = names(documents, others.get("before", {}), others.get("taken", ()))
    assert len({name.casefold() for name in result.values()}) == len(documents)
    return [result[document.source] for document in documents]


def test_texts_are_called_by_their_place_and_no_two_alike(tmp_path: Path) -> None:
    touch(
        tmp_path, "x/a.png", "y/a.png", "y/a.pdf", "y/b.png", "in/x/a.png", "in/y/a.png", "z/A.png", "z/b.png"
    )
    assert named(documents(tmp_path, "in")) == ["x/a", "y/a"]
    assert named(documents(tmp_path, "y/b.png", "x/a.png")) == ["b", "a"]
    assert named(documents(tmp_path, "y/a.png", "y/a.pdf")) == ["a.png", "a.pdf"]
    assert named(documents(tmp_path, "x/a.png", "y/a.png")) == ["x/a", "y/a"]
    everything = named(documents(tmp_path, "x/a.png", "y/a.png", "y/a.pdf", "in/x/a.png", "z/A.png"))
    assert len(everything) == 5  # and all differ, also where a file system knows no capitals


def test_a_name_once_given_stays_and_is_nobody_elses(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.png", "z/a.png")
    x, y, z = documents(tmp_path, "x/a.png", "y/a.png", "z/a.png")
    before = names([x], {}, ())
    assert before == {x.source: "a"}
    later = names([y, x], before, ())
    assert later == {x.source: "a", y.source: "a.png"}
    assert names([z], later, ())[z.source] == "z/a"
    assert names([x], {}, ["a"])[x.source] == "a.png"  # a file that is not ours is not overwritten


def test_a_document_that_cannot_be_opened_does_not_hide_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "good.pdf", "bad.pdf", "short.pdf", "one.png")

    def count(path: Path) -> int:
        if path.name == "bad.pdf":
            raise DataError("is damaged")
        return {"good.pdf": 9, "short.pdf": 1}.get(path.name, 1)

    found, failures = survey(find([str(tmp_path)]), "2-4", count)
    assert [(document.found.path.name, document.pages) for document in found] == [
        ("good.pdf", (2, 3, 4)),
        ("one.png", (1,)),  # a picture has no pages to choose from
    ]
    assert [str(failure) for failure in failures] == [
        f"{tmp_path}/bad.pdf: is damaged",
        f"{tmp_path}/short.pdf: has 1 page, none of pages=2-4; choose others",
    ]
    assert (
        found[0].page_name(3) == f"{tmp_path}/good.pdf, page 3"
        and found[1].page_name(1) == f"{tmp_path}/one.png"
    )
