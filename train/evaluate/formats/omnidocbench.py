"""OmniDocBench (CVPR 2025; v1.0 to v1.6 have one format): pages with their blocks, in one JSON file.

    OmniDocBench/OmniDocBench.json   OmniDocBench/images/NAME.jpg

The JSON is a list of pages:
    page_info    image_path, page_attribute {language, data_source, layout, …}, width, height, page_no
    layout_dets  blocks: category_type, order (null outside of the reading order), anno_id, poly, and `text`,
                 `latex` (formulas, tables) or `html` (tables); others (figures, "abandon") have none of them
    extra        relation: [{source_anno_id, target_anno_id, relation_type}]; "truncated" joins blocks that a
                 column or page break cut apart, which count as one
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from train.evaluate.formats.page import TO_MARKDOWN, Block, Page, PageFolder, read_json_list

_LANGUAGES = {
    "english": "en",
    "simplified_chinese": "zh",
    "traditional_chinese": "zh-Hant",
    "en_ch_mixed": "en+zh",
}
_CONTENT = {"table": "html", "equation_isolated": "latex"}  # every other category: text


def read_omnidocbench(folder: Path) -> PageFolder:
    """Pages of the benchmark's folder (or of its JSON file), in its order. Missing pictures are left out by name.

    DataError for a folder without such a JSON file, a malformed one, or when every picture is missing.
    """
    path = folder if folder.is_file() else _annotations(folder)
    found = PageFolder()
    for number, entry in enumerate(read_json_list(path)):
        where = f"{path}, page {number}"
        try:
            found.add(_page(entry, path.parent))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{where} is not a page of OmniDocBench: {what}") from error
    return found.usable(path)


def _annotations(folder: Path) -> Path:
    usual = folder / "OmniDocBench.json"
    files = [usual] if usual.is_file() else sorted(folder.glob("*.json")) if folder.is_dir() else []
    if len(files) != 1:
        raise DataError(
            f"{folder} is not an OmniDocBench folder: it needs OmniDocBench.json and images/, and holds "
            f"{len(files) or 'no'} JSON files" + (" of which none has that name" if files else "")
        )
    return files[0]


def _page(entry: Any, root: Path) -> Page:
    info = entry["page_info"]
    name = str(info["image_path"])
    attributes = info.get("page_attribute") or {}
    language = str(attributes.get("language", ""))
    blocks = _blocks(entry)
    reading = [block for block in blocks if block.order is not None]
    return Page(
        Path(name).stem, _picture(root, name), "\n\n".join(block.content.strip() for block in reading),
        _LANGUAGES.get(language, language), str(attributes.get("data_source", "")), TO_MARKDOWN, tuple(blocks),
    )  # fmt: skip


def _picture(root: Path, name: str) -> Path:
    """Where the picture is: some copies name it from the root, some from images/."""
    places = [root / name, root / "images" / name, root / "images" / Path(name).name]
    return next((place for place in places if place.is_file()), places[1])


def _blocks(entry: Any) -> list[Block]:
    """Blocks that have content, in reading order, truncated ones joined at the place of their first part.

    The field `ignore` is not looked at: the benchmark's own evaluation does not either.
    """
    parts = list(entry["layout_dets"])
    joined = _joined(entry, parts)
    blocks = []
    for number, part in enumerate(parts):
        group = joined.get(number, [number])
        category = str(part["category_type"])
        content = "".join(_content(parts[member], category) for member in group)
        if group[0] == number and content.strip():
            blocks.append(Block(category, content, part.get("order")))
    return sorted(blocks, key=lambda block: block.order or 0)


def _content(part: Any, category: str) -> str:
    return str(part.get(_CONTENT.get(category, "text")) or "")


def _joined(entry: Any, parts: Sequence[Any]) -> dict[int, list[int]]:
    """For every block (by its place in the list) that is part of a truncated one: all parts, in reading order."""
    numbers = {part.get("anno_id"): number for number, part in enumerate(parts)}
    groups: dict[int, list[int]] = {}
    for relation in (entry.get("extra") or {}).get("relation", []):
        ends = [numbers.get(relation.get(name)) for name in ("source_anno_id", "target_anno_id")]
        if relation.get("relation_type") != "truncated" or None in ends:
            continue
        merged = {member for end in ends if end is not None for member in groups.get(end, [end])}
        ordered = sorted(merged, key=lambda number: parts[number].get("order") or 0)
        groups |= dict.fromkeys(merged, ordered)
    return groups
