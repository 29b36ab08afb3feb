"""The Fox benchmark's page-level task (arXiv 2405.14295), unpacked from `focus_benchmark_test.zip`:

    focus_benchmark_test/en_page_ocr.json   focus_benchmark_test/en_pdf_png/en_1.png …
    focus_benchmark_test/cn_page_ocr.json   focus_benchmark_test/cn_pdf_png/…

Each JSON is a list of {"image": name, "conversations": [{"value": question}, {"value": the page's text}]}.
DeepSeek-OCR's compression table (arXiv 2510.18234, Table 2) is of the English pages with 600 to 1300 tokens.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from train.evaluate.formats.page import FREE_OCR, Page, PageFolder, read_json_list

TASKS = {"en": ("en_page_ocr.json", "en_pdf_png"), "zh": ("cn_page_ocr.json", "cn_pdf_png")}
TABLE_BINS = tuple(
    (low, low + 100) for low in range(600, 1300, 100)
)  # text tokens of the paper's Table 2: low ≤ n < high


def read_fox(folder: Path, languages: Iterable[str] = ("en", "zh")) -> PageFolder:
    """Pages of the languages whose list is there, in its order. Missing pictures are left out by name.

    DataError where no list is found, for a list that is not Fox's, or when every picture is missing.
    """
    found = PageFolder()
    lists = {language: TASKS[language] for language in languages if (folder / TASKS[language][0]).is_file()}
    if not lists:
        wanted = " or ".join(TASKS[language][0] for language in languages)
        raise DataError(
            f"{folder} is not a Fox benchmark folder: it holds no {wanted}. Unpack focus_benchmark_test.zip and give "
            "the folder focus_benchmark_test"
        )
    for language, (name, pictures) in lists.items():
        for number, entry in enumerate(read_json_list(folder / name)):
            picture, text = _entry(entry, f"{folder / name}, entry {number}")
            key = f"{language}/{Path(picture).stem}"
            found.add(Page(key, folder / pictures / picture, text, language, "page", FREE_OCR))
    return found.usable(folder)


def _entry(entry: Any, where: str) -> tuple[str, str]:
    """Picture's name and text of one entry."""
    try:
        picture, text = entry["image"], entry["conversations"][1]["value"]
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(
            f'{where}: needs "image" and "conversations" with a question and an answer, as the Fox benchmark has them'
        ) from error
    if not isinstance(picture, str) or not isinstance(text, str):
        raise DataError(f'{where}: "image" and the answer\'s "value" must be text')
    return picture, text
