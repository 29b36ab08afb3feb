"""A page's pixels as the bytes of an image file, and back."""

import io

import numpy as np
from PIL import Image, ImageOps

FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}  # PIL's format of an extension

_MAX_PIXELS = 64_000_000  # an 8000 x 8000 page; more is taken for a decompression bomb
_PNG_LEVEL = 6  # a fifth smaller than level 1 for twice the time; a page is read many times


def encode_page(page: np.ndarray) -> bytes:
    """A PNG of uint8 [height, width] or [height, width, 3]; the same page gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(page).save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def decode_page(extension: str, data: bytes) -> np.ndarray:
    """uint8 [height, width] of grey images, else [height, width, 3]; upright, transparency on white paper.

    Only the format that the extension names is tried. ValueError for anything that is not such an image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[FORMATS[extension]]) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many for a page")
            if image.mode == "L" and image.format == "PNG":  # our own pages: nothing to convert
                return np.asarray(image)
            return _as_paper(ImageOps.exif_transpose(image))
    except Exception as error:  # damaged files make PIL's decoders raise nearly anything
        raise ValueError(str(error)) from None


def _as_paper(image: Image.Image) -> np.ndarray:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
