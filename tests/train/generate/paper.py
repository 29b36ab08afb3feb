"""Documents for tests: pages of random blocks, PDFs by cairo, and everything that is no page."""

from pathlib import Path

import cairocffi
import numpy as np
from PIL import Image

ENCRYPTED = Path(__file__).parents[2] / "data" / "encrypted.pdf"
WITHOUT_PAGES = (
    b"%PDF-1.3\n1 0 obj\n<< /Pages 2 0 R /Type /Catalog >>\nendobj\n2 0 obj\n<< /Count 0 /Kids [ ] /Type /Pages >>\n"
    b"endobj\nxref\n0 3\n0000000000 65535 f \n0000000009 00000 n \n0000000058 00000 n \n"
    b"trailer << /Root 1 0 R /Size 3 >>\nstartxref\n110\n%%EOF\n"
)


def blocks(seed: int, side: int = 64) -> np.ndarray:
    """A coarse random pattern, which even an untrained encoder tells from others."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)
    return np.kron(coarse, np.ones((side // 4, side // 4), dtype=np.uint8))


def picture(path: Path, seed: int = 0) -> Path:
    """A picture of `blocks`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks(seed)).save(path)
    return path


def pdf(path: Path, pages: int, blank: tuple[int, ...] = (), colour: bool = False) -> Path:
    """A PDF of pages of 60 x 96 points: page n has a black bar n * 6 points high at its top, `blank` ones nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    surface = cairocffi.PDFSurface(str(path), 60, 96)
    context = cairocffi.Context(surface)
    for page in range(1, pages + 1):
        if page not in blank:
            context.set_source_rgb(1 if colour else 0, 0, 0)
            context.rectangle(0, 0, 60, 6 * page)
            context.fill()
        surface.show_page()
    surface.finish()
    return path
