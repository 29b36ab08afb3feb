"""One page as pixels, out of a picture, a TIFF or a PDF; and what is no page at all.

Messages are the end of a sentence that begins with the file's name.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_pipeline.errors import DataError
from train.generate.pdf import count_pdf_pages, render_pdf_page

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")  # of PIL's others, one calls Ghostscript
MOST_PIXELS = 89_478_485  # PIL's own; above it warns of a decompression bomb. A3 at 600 dpi has 70 million
SMALLEST = 8  # pixels a side; not one line of letters fits below
LONGEST = 64  # times the other side; squeezed into a square, nothing of such a strip is left
PAPER_NOISE = 8  # of 255 levels; a page that varies by no more shows nothing

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused below, with advice


def count_pages(path: Path) -> int:
    """How many pages a file has: of a PDF, of a TIFF; else 1. Raises DataError for a file without any."""
    with open(path, "rb") as file:
        start = file.read(1024)
    if not start:
        raise DataError("is empty (0 bytes); get it again, or leave it out")
    if _is_pdf(start):
        return count_pdf_pages(path)
    if start[:4] in (b"II*\0", b"MM\0*"):
        with _opened(path) as picture:
            return getattr(picture, "n_frames", 1)
    return 1


def open_page(path: Path, number: int, dpi: int) -> np.ndarray:
    """Page `number` (from 1), upright, on white paper: uint8 [height, width] where it is grey, else [height, width, 3].

    Raises DataError for what cannot be read or cannot be a page.
    """
    with open(path, "rb") as file:
        start = file.read(1024)
    if _is_pdf(start):
        page = render_pdf_page(path, number, dpi, MOST_PIXELS)
    else:
        page = _picture(path, number)
    height, width = page.shape[:2]
    if min(height, width) < SMALLEST:
        raise DataError(
            f"{width} x {height} pixels are no page: less than {SMALLEST} pixels high or wide; leave it out, or scan it "
            "at a higher resolution"
        )
    if max(height, width) > LONGEST * min(height, width):
        raise DataError(
            f"{width} x {height} pixels are no page: one side is more than {LONGEST} times the other; cut it into pages"
        )
    return page


def is_blank(page: np.ndarray) -> bool:
    """Whether a page is of one colour, up to the noise of paper."""
    flat = page.reshape(-1, page.shape[-1] if page.ndim == 3 else 1)
    return bool((np.ptp(flat, axis=0) <= PAPER_NOISE).all())


def _is_pdf(start: bytes) -> bool:
    return b"%PDF-" in start


def _picture(path: Path, number: int) -> np.ndarray:
    with _opened(path) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise DataError(
                f"{picture.width} x {picture.height} pixels are too many for a page; scale it down, or cut it into pages"
            )
        try:
            if number > 1:
                picture.seek(number - 1)
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:
                paper = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(paper, upright.convert("RGBA"))
            return np.asarray(_eight_bits(upright))
        except Exception as error:  # damaged files make PIL's decoders raise nearly anything
            raise DataError(f"is a picture that is damaged or not complete ({error}); get it again") from None


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey or coloured, 8 bits a channel; PIL would cut greys of 16 bits off at 255."""
    if picture.mode.startswith(("I;16", "I")):
        grey = np.asarray(picture, dtype=np.float64)
        return Image.fromarray((grey / max(grey.max(), 1) * 255).round().astype(np.uint8))
    return picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")


def _opened(path: Path) -> Image.Image:
    try:
        Image.init()
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])  # not every PIL knows AVIF
    except UnidentifiedImageError:
        raise DataError("is neither a picture nor a PDF, whatever its name says; leave it out") from None
    except Image.DecompressionBombError:
        raise DataError("has too many pixels for a page; scale it down, or cut it into pages") from None
    except OSError:  # not readable, or gone: the system's own words are clear
        raise
    except Exception as error:
        raise DataError(f"is a picture that is damaged ({error}); get it again") from None
