"""A page to evaluate on, whichever format it comes from: its picture, its text, and what kind it is.

A reader names what it cannot use in `PageFolder.left_out` and goes on; only a folder that is not in its format
at all, or holds nothing usable, is an error.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.small_file import read_small

FREE_OCR = "\nFree OCR."  # prompts of the release, which stand after the page's <image> positions
TO_MARKDOWN = "\n<|grounding|>Convert the document to markdown."

_NAMED = 5


@dataclass(frozen=True)
class Block:
    """A part of a page. `category` is OmniDocBench's name; `content` its text, LaTeX (formulas) or HTML (tables).

    order: place in the reading order, from 1; None for what stands outside of it (page numbers, headers).
    """

    category: str
    content: str
    order: float | None


@dataclass(frozen=True)
class Page:
    """`key` names the page in results. `reference` is its whole text in reading order, `prompt` what the
    benchmark's protocol asks a model of DeepSeek-OCR's kind (None: nothing in particular).

    language: BCP 47 ("en", "zh"), "en+zh" where mixed, "" unknown. blocks: only of formats that have them.
    """

    key: str
    picture: Path
    reference: str
    language: str = ""
    kind: str = ""
    prompt: str | None = None
    blocks: tuple[Block, ...] = ()


@dataclass
class PageFolder:
    """Pages of a folder. left_out: name → why the page of that name is not among them."""

    pages: list[Page] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, page: Page) -> None:
        """Takes a page in, or notes that its picture is missing."""
        if page.picture.is_file():
            self.pages.append(page)
        else:
            self.left_out[page.key] = f"its picture {page.picture.name} is missing"

    def told(self) -> str | None:
        """What was left out, how many and the first names, in one line; None where everything is there."""
        if not self.left_out:
            return None
        some = [f"{key} ({why})" for key, why in list(self.left_out.items())[:_NAMED]]
        more = len(self.left_out) - len(some)
        total = len(self.pages) + len(self.left_out)
        return f"{len(self.left_out)} of {total} pages are left out: {', '.join(some)}" + (
            f" and {more} more" if more else ""
        )

    def usable(self, folder: Path) -> "PageFolder":
        """Itself; DataError where no page is left."""
        if not self.pages:
            raise DataError(f"{folder}: no page can be used. {self.told() or 'It lists none.'}")
        return self


def read_json_list(path: Path) -> list[Any]:
    """The JSON list in a file; DataError naming the file for anything else."""
    try:
        content = json.loads(read_small(path).decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}. Was it downloaded whole?"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply to be a list of pages") from error
    if not isinstance(content, list):
        raise DataError(f"{path} must be a JSON list of pages, and is a {type(content).__name__}")
    return content
