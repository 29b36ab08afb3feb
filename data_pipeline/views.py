"""A page as the encoder sees it: the pixels of its views, and its glyph map through the same transforms.

The pixels are PIL's own: bicubic `resize`, or `ImageOps.pad`; for tiles the whole page is resized to the grid and cut.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from data_pipeline.record import BLANK
from data_pipeline.resolution import Grid, Mode, grid_of

PAD_COLOUR = 127  # int(0.5 * 255): zero after the release's normalisation with mean 0.5


class Views(NamedTuple):
    """Of one page: overview uint8 [3, S, S]; tiles uint8 [3, T, T], row by row of the grid; the grid (columns, rows).

    A grey page's three channels share memory (a read-only broadcast), so collating can stay on one channel.
    """

    overview: np.ndarray
    tiles: tuple[np.ndarray, ...]
    grid: Grid


def views(page: np.ndarray, mode: Mode) -> Views:
    """The views of a page, uint8 [height, width] or [height, width, 3]."""
    height, width = page.shape[:2]
    grid = columns, rows = grid_of(width, height, mode)
    size, tile = (mode.size, mode.size), mode.tile
    overview = page if (height, width) == size else _fitted(page, mode)  # PIL would copy it as it is
    tiles = []
    if columns:
        cut = (columns * tile, rows * tile)
        whole = np.asarray(Image.fromarray(page).resize(cut, Image.Resampling.BICUBIC))
        tiles = [
            whole[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            for row in range(rows)
            for column in range(columns)
        ]
    return Views(_channels_first(overview), tuple(map(_channels_first, tiles)), grid)


def _fitted(page: np.ndarray, mode: Mode) -> np.ndarray:
    image = Image.fromarray(page)
    size = (mode.size, mode.size)
    if mode.fit == "resize":
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    colour = PAD_COLOUR if image.mode == "L" else (PAD_COLOUR,) * 3
    return np.asarray(ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=colour))


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(pixels, (3, *pixels.shape)) if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


class Placement(NamedTuple):
    """Where a page lies in a view of `size` pixels: along each axis, the pixels that the whole page takes in the view's
    scale, and the view's pixel at which the page begins (negative for a tile further in).
    """

    size: int
    height: tuple[int, int]
    width: tuple[int, int]


def placements(page_shape: tuple[int, int], mode: Mode) -> list[Placement]:
    """Of the overview, then of each tile; page_shape: (height, width)."""
    height, width = page_shape
    columns, rows = grid_of(width, height, mode)
    tile = mode.tile
    cut = [
        Placement(tile, (rows * tile, -row * tile), (columns * tile, -column * tile))
        for row in range(rows)
        for column in range(columns)
    ]
    return [_overview_placement(height, width, mode), *cut]


def _overview_placement(height: int, width: int, mode: Mode) -> Placement:
    """As PIL computes it."""
    size = mode.size
    if mode.fit == "resize":
        return Placement(size, (size, 0), (size, 0))
    shown_height = size if height >= width else round(height / width * size)
    shown_width = size if width >= height else round(width / height * size)
    top, left = round((size - shown_height) * 0.5), round((size - shown_width) * 0.5)
    return Placement(size, (shown_height, top), (shown_width, left))


def resample_glyphs(
    glyphs: np.ndarray, cell: int, page_shape: tuple[int, int], placement: Placement, cells: int
) -> np.ndarray:
    """A page's glyph map as seen in a view: uint8 [cells, cells].

    glyphs: uint8 [rows, columns], one cell `cell` page pixels a side. page_shape: (height, width) of the page. Each cell
    of the result takes the class at its centre, through the same transform as the pixels; padding is BLANK.
    """
    rows = _source_cells(page_shape[0], placement.height, placement.size, cells) // cell
    columns = _source_cells(page_shape[1], placement.width, placement.size, cells) // cell
    inside = (rows >= 0)[:, None] & (columns >= 0)[None, :]
    rows = np.clip(rows, 0, glyphs.shape[0] - 1).astype(np.intp)
    columns = np.clip(columns, 0, glyphs.shape[1] - 1).astype(np.intp)
    return np.where(inside, glyphs[np.ix_(rows, columns)], np.uint8(BLANK))


def _source_cells(page: int, along: tuple[int, int], size: int, cells: int) -> np.ndarray:
    """Page pixel coordinates (float [cells]) of the cells' centres along an axis; -1 in the padding."""
    centres = (np.arange(cells) + 0.5) * (size / cells)
    shown, offset = along
    position = (centres - offset) * (page / max(shown, 1))  # a sliver of a page may vanish
    return np.where((centres >= offset) & (centres < offset + shown), position, -1.0)
