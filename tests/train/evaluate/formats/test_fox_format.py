"""The Fox benchmark's folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_pipeline.errors import DataError
from train.evaluate.formats import READERS
from train.evaluate.formats.fox import TABLE_BINS, read_fox


def entry(picture: str, text: str) -> dict[str, Any]:
    """As focus_benchmark_test/en_page_ocr.json has it."""
    said = [{"from": "human", "value": "<image>\nOCR this image: "}, {"from": "gpt", "value": text}]
    return {"image": picture, "len": len(text.split()), "conversations": said}


def benchmark(folder: Path) -> Path:
    for directory, names in (("en_pdf_png", ("en_1.png", "en_2.png")), ("cn_pdf_png", ("cn_1.png",))):
        (folder / directory).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (8, 8)).save(folder / directory / name)
    english = [entry("en_1.png", "FREEDOM OF\nINFORMATION"), entry("en_2.png", "Page two")]
    (folder / "en_page_ocr.json").write_text(json.dumps(english))
    (folder / "cn_page_ocr.json").write_text(
        json.dumps([entry("cn_1.png", "海上生明月")], ensure_ascii=False)
    )
    return folder


def test_pages_of_both_languages_are_read(tmp_path: Path) -> None:
    found = READERS["fox"](benchmark(tmp_path / "focus_benchmark_test"))
    assert [(page.key, page.language, page.reference) for page in found.pages] == [
        ("en/en_1", "en", "FREEDOM OF\nINFORMATION"),
        ("en/en_2", "en", "Page two"),
        ("zh/cn_1", "zh", "海上生明月"),
    ]
    assert all(page.picture.is_file() for page in found.pages)
    assert {page.prompt for page in found.pages} == {"\nFree OCR."}


def test_one_language_alone_is_enough(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "focus")
    assert [page.language for page in read_fox(folder, ["zh"]).pages] == ["zh"]
    (folder / "cn_page_ocr.json").unlink()
    assert {page.language for page in read_fox(folder).pages} == {"en"}


def test_missing_pictures_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "focus")
    (folder / "en_pdf_png" / "en_2.png").unlink()
    found = read_fox(folder)
    assert [page.key for page in found.pages] == ["en/en_1", "zh/cn_1"]
    assert found.told() == "1 of 3 pages are left out: en/en_2 (its picture en_2.png is missing)"


def test_no_picture_at_all_is_refused(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "focus")
    for path in folder.glob("*_pdf_png/*.png"):
        path.unlink()
    with pytest.raises(DataError, match="no page can be used. 3 of 3 pages are left out: en/en_1 "):
        read_fox(folder)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"not a Fox benchmark folder: it holds no en_page_ocr.json or cn_page_ocr.json.*focus_benchmark_test",
    ):
        read_fox(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"image": "en_1.png"', "not valid JSON: .* line 1, column"),
        ('{"image": "en_1.png"}', "must be a JSON list of pages, and is a dict"),
        ('[{"image": "en_1.png", "conversations": []}]', r'entry 0: needs "image" and "conversations"'),
        ('["en_1.png"]', r'entry 0: needs "image"'),
        ('[{"image": 7, "conversations": [{}, {"value": "x"}]}]', "entry 0: .* must be text"),
        ("[]", "no page can be used. It lists none."),
    ],
)
def test_a_malformed_list_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "en_page_ocr.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_fox(tmp_path)


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "en_page_ocr.json").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(DataError, match=r"en_page_ocr.json is not UTF-8 text"):
        read_fox(tmp_path)


def test_the_papers_bins_are_those_of_its_table() -> None:
    assert TABLE_BINS == (
        (600, 700),
        (700, 800),
        (800, 900),
        (900, 1000),
        (1000, 1100),
        (1100, 1200),
        (1200, 1300),
    )
