"""How a page becomes a view: resolution modes, the transform, and how many tokens it costs.

DeepSeek-OCR's encoder sees a square view of S pixels: patches of `patch` pixels form a grid of g = S / patch,
the compressor quarters each side to f = g / 4. The paper counts f * f vision tokens; in the decoder the view
takes f * (f + 1) + 1 positions (a newline embedding after each row, a separator at the end).

Small views are resized without regard to the aspect ratio, large ones padded with grey (127) around the page,
as in the release. No torch here: the model imports this module for its counts.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from data_pipeline.errors import DataError
from data_pipeline.record import BLANK

PAD_COLOUR = 127  # int(0.5 * 255): zero after the release's normalisation with mean 0.5
COMPRESSION = 4  # the compressor's two convolutions of stride 2, per side
_LARGEST_RESIZED = 640


@dataclass(frozen=True)
class Mode:
    """A view's size in pixels a side and how the page is made to `fit` it: "resize" or "pad"."""

    name: str
    size: int
    fit: str


MODES = {
    "tiny": Mode("tiny", 512, "resize"),
    "small": Mode("small", 640, "resize"),
    "base": Mode("base", 1024, "pad"),
    "large": Mode("large", 1280, "pad"),
}


def mode_for(size: int) -> Mode:
    """The mode of a view of `size` pixels; sizes that have no name follow the rule: resize up to 640."""
    for mode in MODES.values():
        if mode.size == size:
            return mode
    return Mode(f"{size}px", size, "resize" if size <= _LARGEST_RESIZED else "pad")


def grid_side(size: int, patch: int) -> int:
    """Patches along one side of a view; raises DataError for a size the encoder cannot tile."""
    unit = patch * COMPRESSION
    if size <= 0 or size % unit:
        nearest = max(1, round(size / unit)) * unit
        raise DataError(
            f"a view of {size} pixels is not a multiple of {unit} (patch {patch} times the compressor's "
            f"{COMPRESSION}); the nearest size is {nearest}: data.image_size={nearest}"
        )
    return size // patch


def token_side(size: int, patch: int) -> int:
    """Vision tokens along one side of a view, after the compressor."""
    return grid_side(size, patch) // COMPRESSION


def vision_tokens(size: int, patch: int) -> int:
    """Vision tokens of a view as the paper counts them: without newlines and separator."""
    return token_side(size, patch) ** 2


def sequence_length(size: int, patch: int) -> int:
    """Decoder positions that a view takes: rows of tokens, each ended by a newline, then a separator."""
    side = token_side(size, patch)
    return side * (side + 1) + 1


def view(page: np.ndarray, mode: Mode) -> np.ndarray:
    """A page (uint8 [height, width] or [height, width, 3]) as a view, uint8 [3, size, size].

    The pixels are PIL's own: bicubic `resize`, or `ImageOps.pad`. A grey page's three channels share memory
    (a read-only broadcast), so collating can stay on one channel.
    """
    size = (mode.size, mode.size)
    pixels = page if page.shape[:2] == size else _fitted(page, mode)  # PIL would copy it as it is
    if pixels.ndim == 2:
        return np.broadcast_to(pixels, (3, *pixels.shape))
    return pixels.transpose(2, 0, 1)


def _fitted(page: np.ndarray, mode: Mode) -> np.ndarray:
    image = Image.fromarray(page)
    size = (mode.size, mode.size)
    if mode.fit == "resize":
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    colour = PAD_COLOUR if image.mode == "L" else (PAD_COLOUR,) * 3
    return np.asarray(ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=colour))


def resample_glyphs(
    glyphs: np.ndarray, cell: int, page_shape: tuple[int, int], size: int, cells: int
) -> np.ndarray:
    """A page's glyph map as seen in the view of `size` pixels: uint8 [cells, cells].

    glyphs: uint8 [rows, columns], one cell `cell` page pixels a side. page_shape: (height, width) of the
    page. Each cell of the result takes the class at its centre, through the same transform as `view`; padding
    is BLANK.
    """
    rows = _source_cells(page_shape, size, cells, axis=0) // cell
    columns = _source_cells(page_shape, size, cells, axis=1) // cell
    inside = (rows >= 0)[:, None] & (columns >= 0)[None, :]
    rows = np.clip(rows, 0, glyphs.shape[0] - 1).astype(np.intp)
    columns = np.clip(columns, 0, glyphs.shape[1] - 1).astype(np.intp)
    return np.where(inside, glyphs[np.ix_(rows, columns)], np.uint8(BLANK))


def _source_cells(page_shape: tuple[int, int], size: int, cells: int, axis: int) -> np.ndarray:
    """Page pixel coordinates (float [cells]) of the cells' centres along an axis; -1 in the padding."""
    centres = (np.arange(cells) + 0.5) * (size / cells)
    shown, offset = _placement(page_shape, size)[axis]
    position = (centres - offset) * (page_shape[axis] / max(shown, 1))  # a sliver of a page may vanish
    return np.where((centres >= offset) & (centres < offset + shown), position, -1.0)


def _placement(page_shape: tuple[int, int], size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(pixels, offset) of the page inside the view, for height and width, as PIL computes them."""
    if mode_for(size).fit == "resize":
        return (size, 0), (size, 0)
    height, width = page_shape
    shown_height = size if height >= width else round(height / width * size)
    shown_width = size if width >= height else round(width / height * size)
    top, left = round((size - shown_height) * 0.5), round((size - shown_width) * 0.5)
    return (shown_height, top), (shown_width, left)
