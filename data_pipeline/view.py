"""python -m data_pipeline.view runs/pages: what is in the shards: counts, verified checksums, a sheet of pages.

The sheet, `contact_sheet.png`, shows pages of every shard set spread over its whole length, each with its number,
its source and its target text underneath: what the model is asked to read.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.errors import DataError, UserError

if TYPE_CHECKING:
    import numpy as np

    from data_pipeline.manifest import Manifest
    from data_pipeline.record import Record

SHEET_NAME = "contact_sheet.png"
_COLUMNS = 6
_CELL = 256  # px: pages are enlarged by a whole factor, or reduced, to at most this width
_GAP = 16


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 0, 1 when a checksum does not match, 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.view", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("folder", type=Path, help="a folder with shard sets below it, or one shard set")
    parser.add_argument(
        "--pages", type=int, default=_COLUMNS, help=f"pages of each set on the sheet (default {_COLUMNS})"
    )
    parser.add_argument("--sheet", type=Path, help=f"where the sheet goes (default FOLDER/{SHEET_NAME})")
    arguments = parser.parse_args(argv)
    try:
        return (
            1
            if view(arguments.folder, arguments.pages, arguments.sheet or arguments.folder / SHEET_NAME)
            else 0
        )
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def view(folder: Path, pages: int, sheet: Path) -> list[str]:
    """Print what is below `folder`, verify it, write the sheet; returns the problems found. Raises DataError for no shards."""
    from PIL import Image

    sets = shard_sets(folder)
    problems = []
    print(f"{'shard set':34} {'shards':>7} {'pages':>8} {'MB':>8} {'bytes/page':>11}  checksums")
    for name, (path, manifest) in sets.items():
        found = _verify(path, manifest)
        problems += [f"{name}/{problem}" for problem in found]
        size = sum(shard.bytes for shard in manifest.shards)
        mean = manifest.text_bytes / max(manifest.samples, 1)
        print(
            f"{name:34} {len(manifest.shards):7} {manifest.samples:8} {size / 1e6:8.1f} {mean:11.1f}  {'BAD' if found else 'verified'}"
        )
    for name, (_, manifest) in sets.items():
        for reason, count in sorted(manifest.refused.items(), key=lambda item: -item[1]):
            print(f"{name}: refused {count}: {reason}")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    readable = {
        name: entry
        for name, entry in sets.items()
        if not any(problem.startswith(f"{name}/") for problem in problems)
    }
    if readable and pages > 0:
        Image.fromarray(contact_sheet(readable, pages)).save(sheet)
        print(f"pages with their text: {sheet}")
    return problems


def shard_sets(folder: Path) -> "dict[str, tuple[Path, Manifest]]":
    """Name → (folder, manifest) of every shard set at or below `folder`; DataError when there is none."""
    from data_pipeline.manifest import MANIFEST_NAME, Manifest

    found = sorted(path.parent for path in folder.rglob(MANIFEST_NAME))
    if not found:
        Manifest.load(folder)  # says that this is no shard set, and how to build one
    return {
        path.relative_to(folder).as_posix() if path != folder else path.name: (path, Manifest.load(path))
        for path in found
    }


def sample(path: Path, manifest: "Manifest", number: int) -> "Record":
    """Sample `number` of a shard set, read through the index of its shard."""
    from data_pipeline.manifest import ShardIndex
    from data_pipeline.record import decode

    for shard in manifest.shards:
        if number < shard.samples:
            break
        number -= shard.samples
    else:
        raise DataError(f"{path}: has only {manifest.samples} samples")
    entry = ShardIndex.load(path / shard.name).samples[number]
    with open(path / shard.name, "rb") as file:
        parts = {
            extension: os.pread(file.fileno(), size, offset)
            for extension, (offset, size) in entry.parts.items()
        }
    return decode({"__key__": entry.key, **parts})


def contact_sheet(sets: "dict[str, tuple[Path, Manifest]]", pages: int) -> "np.ndarray":
    """uint8 [height, width]: for each set a heading and `pages` of its pages with their texts."""
    import numpy as np

    caption = _Caption([manifest for _, manifest in sets.values()])
    width = _GAP + _COLUMNS * (_CELL + _GAP)
    rows = []
    for name, (path, manifest) in sets.items():
        refused = sum(manifest.refused.values())
        heading = f"{name}: {manifest.samples} pages, {manifest.text_bytes / max(manifest.samples, 1):.1f} bytes of text a page, {refused} refused"
        rows.append(_row([caption(heading, width - 2 * _GAP, 16.0)], width))
        numbers = sorted(
            {int(number) for number in np.linspace(0, manifest.samples - 1, min(pages, manifest.samples))}
        )
        cells = [_cell(sample(path, manifest, number), number, caption) for number in numbers]
        rows += [_row(cells[first : first + _COLUMNS], width) for first in range(0, len(cells), _COLUMNS)]
    return np.vstack(rows)


class _Caption:
    """Sets short texts in any script that the shards' own fonts cover."""

    def __init__(self, manifests: "Sequence[Manifest]") -> None:
        from data_pipeline.render.engine import open_engine
        from data_pipeline.render.fonts import FontSet

        named = {
            folder
            for manifest in manifests
            for folder in manifest.config.get("page", {}).get("font_dirs", [])
        }
        self._fonts = FontSet.load(sorted(folder for folder in named if Path(folder).is_dir()))
        self._engine = open_engine("auto", self._fonts)

    def __call__(self, text: str, width: int, font_px: float = 12.0) -> "np.ndarray":
        """uint8 [height, width], as high as the text needs; what cannot be set is shown as escapes."""
        from data_pipeline.render.page import PageStyle

        for attempt in (text, text.encode("ascii", "backslashreplace").decode()):
            families = self._fonts.families_for(attempt)
            if not families:
                continue
            family = "DejaVu Sans" if "DejaVu Sans" in families else families[0]
            drawing = self._engine.draw(attempt, PageStyle(width, 4000, 0, family, font_px))
            if drawing.lines and not drawing.missing:
                return drawing.image[: int(drawing.lines[-1].y1) + 2]
        raise DataError(f"this text cannot be shown: {text[:60]!r}")


def _cell(record: "Record", number: int, caption: _Caption) -> "np.ndarray":
    """One page in a frame, with its number, source and text: uint8 [height, _CELL]."""
    import numpy as np
    from PIL import Image

    parts = []
    if record.pages:
        page = Image.fromarray(record.pages[0]).convert("L")
        factor = _CELL // max(page.size)
        size = (
            (page.width * factor, page.height * factor)
            if factor
            else (_CELL, round(page.height * _CELL / page.width))
        )
        picture = np.full((size[1], _CELL), 255, np.uint8)
        picture[:, : size[0]] = np.asarray(
            page.resize(size, Image.Resampling.NEAREST if factor else Image.Resampling.LANCZOS)
        )
        picture[[0, -1], : size[0]] = picture[:, [0, size[0] - 1]] = 160
        parts.append(picture)
    parts.append(
        caption(
            f"{number}  {record.source}  {record.language}  {len(record.target.encode())} bytes", _CELL, 10.0
        )
    )
    parts.append(caption(record.target, _CELL))
    return np.vstack(parts)


def _row(cells: "list[np.ndarray]", width: int) -> "np.ndarray":
    """Cells side by side, tops aligned, on white: uint8 [height, width]."""
    import numpy as np

    row = np.full((max(cell.shape[0] for cell in cells) + _GAP, width), 255, np.uint8)
    left = _GAP
    for cell in cells:
        row[_GAP // 2 : _GAP // 2 + cell.shape[0], left : left + cell.shape[1]] = cell
        left += cell.shape[1] + _GAP
    return row


def _verify(path: Path, manifest: "Manifest") -> list[str]:
    from tqdm import tqdm

    from data_pipeline.manifest import verify

    total = sum(shard.bytes for shard in manifest.shards)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc=f"checking {path.name}", leave=False, disable=None
    ) as bar:
        return verify(path, manifest, bar.update)


if __name__ == "__main__":
    sys.exit(main())
