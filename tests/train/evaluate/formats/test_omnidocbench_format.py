"""OmniDocBench's folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.errors import DataError
from tests.train.evaluate.omnidocbench_pages import (
    FIRST_HALF,
    FORMULA,
    NOTE,
    POEM,
    SECOND_HALF,
    TABLE,
    annotations,
    benchmark,
    block,
    page,
)
from train.evaluate.formats import READERS
from train.evaluate.formats.omnidocbench import read_omnidocbench


def test_pages_have_their_blocks_in_order(tmp_path: Path) -> None:
    found = READERS["omnidocbench"](benchmark(tmp_path / "OmniDocBench"))
    harbour, poem = found.pages
    assert (harbour.key, harbour.language, harbour.kind) == ("harbour.pdf_3", "en", "book")
    assert (poem.key, poem.language, poem.kind) == ("poem_1", "zh", "note")
    assert harbour.prompt == "\n<|grounding|>Convert the document to markdown."
    assert [(part.category, part.order) for part in harbour.blocks] == [
        ("header", None), ("title", 1), ("text_block", 2), ("text_block", 3), ("text_block", 4),
        ("figure_caption", 6), ("text_block", 8), ("equation_isolated", 9), ("table", 10),
    ]  # fmt: skip
    contents = {part.category: part.content for part in harbour.blocks}
    assert contents["equation_isolated"] == FORMULA
    assert contents["table"] == TABLE
    assert poem.reference == f"{POEM}\n\n{NOTE}"
    assert "Chapter 3" not in harbour.reference  # a header stands outside of the reading order


def test_a_paragraph_cut_in_two_is_one_at_the_place_of_its_beginning(tmp_path: Path) -> None:
    harbour = read_omnidocbench(benchmark(tmp_path / "OmniDocBench")).pages[0]
    assert [part.order for part in harbour.blocks if part.content == FIRST_HALF + SECOND_HALF] == [4]


@pytest.mark.parametrize("chain", [[(0, 1), (1, 2)], [(1, 2), (0, 1)], [(2, 1), (1, 0)], [(0, 2), (1, 0)]])
def test_a_paragraph_cut_in_three_holds_every_part_once(chain: list[tuple[int, int]], tmp_path: Path) -> None:
    parts = [
        block(number, "text_block", 3 - number, text=text) for number, text in enumerate(("c", "b", "a"))
    ]
    relations = [
        {"source_anno_id": one, "target_anno_id": other, "relation_type": "truncated"} for one, other in chain
    ]
    content = [page("poem_1.jpg", parts, relations)]
    folder = benchmark(tmp_path / "OmniDocBench")
    (folder / "OmniDocBench.json").write_text(json.dumps(content))
    assert [part.content for part in read_omnidocbench(folder).pages[0].blocks] == ["abc"]


def test_the_file_itself_and_other_names_are_accepted(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "OmniDocBench")
    (folder / "OmniDocBench.json").rename(folder / "demo.json")
    assert len(read_omnidocbench(folder).pages) == 2
    assert len(read_omnidocbench(folder / "demo.json").pages) == 2


def test_pictures_may_be_named_from_the_root(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "OmniDocBench")
    content = annotations()
    content[0]["page_info"]["image_path"] = "images/harbour.pdf_3.png"
    content[1]["page_info"]["image_path"] = "elsewhere/poem_1.jpg"
    (folder / "OmniDocBench.json").write_text(json.dumps(content))
    assert [page.picture.name for page in read_omnidocbench(folder).pages] == [
        "harbour.pdf_3.png",
        "poem_1.jpg",
    ]


def test_missing_pictures_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "OmniDocBench")
    (folder / "images" / "poem_1.jpg").unlink()
    found = read_omnidocbench(folder)
    assert [page.key for page in found.pages] == ["harbour.pdf_3"]
    assert found.told() == "1 of 2 pages are left out: poem_1 (its picture poem_1.jpg is missing)"
    (folder / "images" / "harbour.pdf_3.png").unlink()
    with pytest.raises(DataError, match="no page can be used. 2 of 2 pages are left out"):
        read_omnidocbench(folder)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs OmniDocBench.json and images/, and holds no JSON files"):
        read_omnidocbench(tmp_path)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(DataError, match="holds 2 JSON files of which none has that name"):
        read_omnidocbench(tmp_path)
    with pytest.raises(DataError, match="holds no JSON files"):
        read_omnidocbench(tmp_path / "nowhere")


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        del content[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("page_info"), "page 1 is not a page of OmniDocBench: 'page_info' is missing"),
        (without("page_info", "image_path"), "page 1 .* 'image_path' is missing"),
        (without("layout_dets"), "page 1 .* 'layout_dets' is missing"),
        (lambda content: content["layout_dets"][0].pop("category_type"), "'category_type' is missing"),
        (lambda content: content.update(layout_dets=[7]), "page 1 is not a page of OmniDocBench"),
    ],
)
def test_a_malformed_page_is_named(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    folder = benchmark(tmp_path / "OmniDocBench")
    content = annotations()
    change(content[1])
    (folder / "OmniDocBench.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_omnidocbench(folder)


def test_a_page_without_attributes_or_relations_is_read(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "OmniDocBench")
    content = annotations()
    del content[1]["page_info"]["page_attribute"], content[1]["extra"]
    (folder / "OmniDocBench.json").write_text(json.dumps(content))
    poem = read_omnidocbench(folder).pages[1]
    assert (poem.language, poem.kind, len(poem.blocks)) == ("", "", 2)
