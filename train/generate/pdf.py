"""Pages of PDFs as pixels, by PDFium.

PDFium may be in one thread only; a lock sees to that, and as ctypes lets other threads run meanwhile, pages are still
rendered while the model reads.
"""

import atexit
import re
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pypdfium2
import pypdfium2.raw

from data_pipeline.errors import DataError

POINTS = 72  # of a PDF, in an inch
OPEN = 8  # documents kept at hand

_lock = threading.Lock()
_documents: "OrderedDict[Path, pypdfium2.PdfDocument]" = OrderedDict()


@atexit.register
def _close_all() -> None:
    """Else pypdfium2 complains of each open document when the process ends."""
    with _lock:
        while _documents:
            _documents.popitem()[1].close()


def count_pdf_pages(path: Path) -> int:
    """How many pages a PDF has. Raises DataError for one that cannot be opened or has none."""
    with _lock:
        count = len(_opened(path))
    if not count:
        raise DataError("is a PDF without pages; leave it out")
    return count


def render_pdf_page(path: Path, number: int, dpi: int, most_pixels: int) -> np.ndarray:
    """Page `number` (from 1), on white paper: uint8 [height, width], or [height, width, 3] where it has colours.

    Raises DataError for a page that cannot be rendered, or would have more than `most_pixels`.
    """
    with _lock:
        try:
            page = _opened(path)[number - 1]
            width, height = page.get_size()
            pixels = width * height * (dpi / POINTS) ** 2
            if pixels > most_pixels:
                fitting = int(dpi * (most_pixels / pixels) ** 0.5)
                raise DataError(
                    f"would have {pixels / 1e6:.0f} million pixels at dpi={dpi}: choose dpi={fitting} or less"
                )
            shown = page.render(scale=dpi / POINTS, rev_byteorder=True).to_numpy()
            page.close()
        except pypdfium2.PdfiumError as error:
            raise DataError(f"cannot be rendered ({error}); repair the PDF, or leave this page out") from None
    colours = shown[..., :3]
    grey = (colours == colours[..., :1]).all()
    return np.ascontiguousarray(colours[..., 0] if grey else colours)


def _opened(path: Path) -> pypdfium2.PdfDocument:
    """The open document; the lock is held. Raises DataError."""
    if path in _documents:
        _documents.move_to_end(path)
        return _documents[path]
    # PDFium sets its error code when it fails in a known way, and never resets it.
    pypdfium2.raw.FPDF_LoadMemDocument64(b"", 0, None)
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise DataError(_reason(path, error)) from None
    _documents[path] = document
    while len(_documents) > OPEN:
        _documents.popitem(last=False)[1].close()
    return document


def _reason(path: Path, error: pypdfium2.PdfiumError) -> str:
    content = path.read_bytes()
    if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD and b"/Encrypt" in content:
        return "is encrypted; save it without its password first: qpdf --password=… --decrypt IN.pdf OUT.pdf"
    if re.search(rb"/Count\s+0\b", content) and b"%%EOF" in content:
        return "is a PDF without pages; leave it out"
    return (
        f"is a PDF that is damaged or not complete ({error}); get it again, or repair it: qpdf IN.pdf OUT.pdf"
    )
