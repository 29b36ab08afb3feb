"""Resolution modes: into which views a page is cut, what they cost in tokens, and how these stand in a row.

The encoder sees square views of S pixels: patches of `patch` pixels form a grid of g = S / patch, the compressor
quarters each side to f = g / 4. A page becomes one overview, and in the tiled modes also columns x rows tiles of it
at a higher resolution. The paper counts f * f vision tokens a view; in the decoder a page takes

    [each row of the tiles' tokens, ended by a newline] [each row of the overview's, ended by a newline] separator

(the tiles put together to one grid). Overviews of up to 640 pixels are resized without regard to the aspect ratio,
larger ones padded with grey. Source: DeepSeek-OCR (arXiv 2510.18234) §3.2, and the released inference code. No torch
here: the model imports this module for its counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.errors import DataError

COMPRESSION = 4  # the compressor's two convolutions of stride 2, per side
LARGEST_RESIZED = 640
GLYPH_CELLS_PER_PATCH = 2  # a side; the glyph map of a view

Grid = tuple[int, int]  # columns and rows of tiles
WHOLE: Grid = (0, 0)  # a page without tiles

# The grids that a page may be cut into, in the order in which the release's loop meets them: among equally good ones
# the later wins or loses by it. The release sorts a Python set, whose order is CPython's own; these are 3.11's.
RATIOS_TO_6: tuple[Grid, ...] = (
    (1, 2), (2, 1), (3, 1), (1, 3), (4, 1), (1, 4), (2, 2), (1, 5), (5, 1), (6, 1), (2, 3), (1, 6), (3, 2),
)  # fmt: skip
RATIOS_TO_9: tuple[Grid, ...] = (
    (1, 2), (2, 1), (3, 1), (1, 3), (2, 2), (4, 1), (1, 4), (5, 1), (1, 5), (1, 6), (6, 1), (3, 2), (2, 3), (7, 1),
    (1, 7), (4, 2), (2, 4), (1, 8), (8, 1), (1, 9), (3, 3), (9, 1),
)  # fmt: skip
RATIOS = {6: RATIOS_TO_6, 9: RATIOS_TO_9}  # by the most tiles: as in the release's vLLM code, as in the paper


@dataclass(frozen=True)
class Mode:
    """The overview's pixels a side and how the page is made to `fit` it ("resize" or "pad"); where there are tiles,
    their pixels a side and the grids they may form.
    """

    name: str
    size: int
    fit: str
    tile: int = 0
    ratios: tuple[Grid, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels a side of the views that a page may get."""
        return (self.size, self.tile) if self.tile else (self.size,)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """All that `grid_of` can answer."""
        return (WHOLE, *self.ratios)


MODES = {
    "tiny": Mode("tiny", 512, "resize"),
    "small": Mode("small", 640, "resize"),
    "base": Mode("base", 1024, "pad"),
    "large": Mode("large", 1280, "pad"),
    "gundam": Mode("gundam", 1024, "pad", 640, RATIOS_TO_9),
    "gundam_m": Mode("gundam_m", 1280, "pad", 1024, RATIOS_TO_9),
}


def mode_of(text: str) -> Mode:
    """The mode called `text`: a name of MODES, pixels of the overview ("64"), or overview and tile ("96+64"); with
    "/6" behind, pages are cut into at most 6 tiles instead of 9, as the release's vLLM code does.

    Raises DataError for anything else.
    """
    base, slash, most = text.partition("/")
    mode = MODES.get(base) or _by_pixels(base)
    if mode is None or (slash and not (mode.tile and most.isdecimal() and int(most) in RATIOS)):
        raise DataError(
            f"there is no mode {text!r}; choose {', '.join(MODES)}, pixels (640), overview and tiles (1024+640), "
            f"or one with tiles and their greatest number, 6 or 9 (gundam/6)"
        )
    return replace(mode, name=text, ratios=RATIOS[int(most)]) if slash else mode


def _by_pixels(text: str) -> Mode | None:
    size, plus, tile = text.partition("+")
    if not size.isdecimal() or (plus and not tile.isdecimal()):
        return None
    fit = "resize" if int(size) <= LARGEST_RESIZED else "pad"
    if plus:
        return Mode(text, int(size), fit, int(tile), RATIOS_TO_9) if int(tile) else None
    named = (mode for mode in MODES.values() if not mode.tile and mode.size == int(size))
    return next(named, Mode(text, int(size), fit))


def grid_of(width: int, height: int, mode: Mode) -> Grid:
    """(columns, rows) of the tiles that a page of these pixels is cut into; WHOLE for a mode without tiles, and for a
    page that is no larger than one tile.

    The grid nearest in shape wins; of two equally near ones the later, where the page has more pixels than half of
    what its tiles would hold.
    """
    if not mode.tile or (width <= mode.tile and height <= mode.tile):
        return WHOLE
    best, smallest = WHOLE, float("inf")
    for columns, rows in mode.ratios:
        difference = abs(width / height - columns / rows)
        filled = width * height > 0.5 * mode.tile * mode.tile * columns * rows
        if difference < smallest or (difference == smallest and filled):
            best, smallest = (columns, rows), difference
    return best


def grid_side(size: int, patch: int) -> int:
    """Patches along one side of a view; raises DataError for a size the encoder cannot tile."""
    unit = patch * COMPRESSION
    if size <= 0 or size % unit:
        nearest = max(1, round(size / unit)) * unit
        raise DataError(
            f"a view of {size} pixels is not a multiple of {unit} (patch {patch} times the compressor's "
            f"{COMPRESSION}); the nearest size is {nearest}: data.modes=['{nearest}']"
        )
    return size // patch


def token_side(size: int, patch: int) -> int:
    """Vision tokens along one side of a view, after the compressor."""
    return grid_side(size, patch) // COMPRESSION


def vision_tokens(mode: Mode, patch: int, grid: Grid = WHOLE) -> int:
    """Vision tokens of a page as the paper counts them: without newlines and separator."""
    tiles = grid[0] * grid[1]
    return token_side(mode.size, patch) ** 2 + (tiles * token_side(mode.tile, patch) ** 2 if tiles else 0)


def valid_tokens(width: int, height: int, mode: Mode, patch: int) -> int:
    """Vision tokens of a page that are not spent on padding (paper, equation 1, rounded down as the release does)."""
    overview = vision_tokens(mode, patch)
    tiles = vision_tokens(mode, patch, grid_of(width, height, mode)) - overview
    longer, shorter = max(width, height), min(width, height)
    padded = mode.fit == "pad"
    return tiles + (int(overview * (1 - (longer - shorter) / longer)) if padded else overview)


def positions(mode: Mode, patch: int, grid: Grid = WHOLE) -> int:
    """Decoder positions that a page takes: rows of tokens, each ended by a newline, then a separator."""
    side = token_side(mode.size, patch)
    columns, rows = (count * token_side(mode.tile, patch) if count else 0 for count in grid)
    return rows * (columns + 1) + side * (side + 1) + 1


def most_positions(modes: Sequence[Mode], patch: int) -> int:
    """Decoder positions of the page that takes most in any of `modes`."""
    return max(positions(mode, patch, grid) for mode in modes for grid in mode.grids)


def laid_out(
    mode: Mode, patch: int, grid: Grid, overview: int, first_tile: int, newline: int, separator: int
) -> np.ndarray:
    """What stands at each of a page's positions, int64 [positions]: rows of a table in which the overview's tokens
    begin at `overview` and those of its tiles, one tile after the other, at `first_tile`.
    """
    side, (columns, rows) = token_side(mode.size, patch), grid
    whole = overview + np.arange(side * side).reshape(side, side)
    parts = [_with_newlines(whole, newline), np.array([separator])]
    if columns:
        side = token_side(mode.tile, patch)
        tiles = first_tile + np.arange(rows * columns * side * side).reshape(rows, columns, side, side)
        together = tiles.transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
        parts.insert(0, _with_newlines(together, newline))
    return np.concatenate(parts)


def _with_newlines(tokens: np.ndarray, newline: int) -> np.ndarray:
    return np.pad(tokens, ((0, 0), (0, 1)), constant_values=newline).ravel()
