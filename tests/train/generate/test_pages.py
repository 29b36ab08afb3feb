"""Pages come out of pictures, TIFFs and PDFs as they look; what is no page is refused with its reason."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.errors import DataError
from tests.train.generate.paper import ENCRYPTED, WITHOUT_PAGES, blocks, pdf, picture
from train.generate import pages as opening
from train.generate.pages import count_pages, is_blank, open_page


def test_pictures_of_any_kind_become_pages(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 10), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("L", (9, 10), 7).save(tmp_path / "grey.png")
    Image.new("RGB", (9, 10), (1, 2, 3)).save(tmp_path / "colour.bmp")
    Image.fromarray(np.linspace(0, 65535, 100, dtype=np.uint16).reshape(10, 10)).save(tmp_path / "deep.png")
    assert open_page(tmp_path / "clear.png", 1, 72).tolist() == np.full((10, 9, 3), 255).tolist()
    assert open_page(tmp_path / "grey.png", 1, 72).tolist() == np.full((10, 9), 7).tolist()
    assert open_page(tmp_path / "colour.bmp", 1, 72)[0, 0].tolist() == [1, 2, 3]
    deep = open_page(tmp_path / "deep.png", 1, 72)
    assert deep.dtype == np.uint8 and (deep[0, 0], deep[5, 0], deep[9, 9]) == (0, 129, 255)


def test_a_picture_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(blocks(0)[:32]).save(tmp_path / "photo.png", exif=exif)
    assert open_page(tmp_path / "photo.png", 1, 72).tolist() == np.rot90(blocks(0)[:32], -1).tolist()


def test_a_tiff_has_pages(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(blocks(seed)) for seed in range(3))
    first.save(tmp_path / "scan.tif", save_all=True, append_images=others)
    assert count_pages(tmp_path / "scan.tif") == 3
    assert open_page(tmp_path / "scan.tif", 3, 72).tolist() == blocks(2).tolist()


def test_pages_of_a_pdf_are_rendered_at_the_resolution(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", 3)
    assert count_pages(path) == 3
    for page in (1, 3):
        shown = open_page(path, page, 144)
        assert shown.shape == (192, 120)
        assert (shown[: 12 * page] == 0).all() and (shown[12 * page + 1 :] == 255).all()
    red = open_page(pdf(tmp_path / "red.pdf", 1, colour=True), 1, 72)
    assert red.shape == (96, 60, 3) and red[0, 0].tolist() == [255, 0, 0]


def test_blank_pages_are_known_and_faint_ones_are_none() -> None:
    noise = np.random.default_rng(0).integers(0, 6, (50, 40), dtype=np.uint8)
    assert is_blank(250 + noise // 2) and is_blank(np.full((9, 9, 3), (200, 150, 90), np.uint8))
    faint = np.full((50, 40), 255, np.uint8)
    faint[20, 5:9] = 230
    assert not is_blank(faint)
    assert not is_blank(np.stack([faint] * 3, axis=2))


def content_of(page: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(page).save(buffer, "png")
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "strip.png": (lambda: content_of(np.zeros((10000, 1), np.uint8)), "1 x 10000 pixels are no page"),
    "ribbon.png": (
        lambda: content_of(np.zeros((10, 2000), np.uint8)),
        "one side is more than 64 times the other; cut it",
    ),
    "empty.png": (lambda: b"", r"is empty \(0 bytes\)"),
    "empty.pdf": (lambda: b"", r"is empty \(0 bytes\)"),
    "truncated.png": (lambda: content_of(blocks(0, 256))[:200], "damaged or not complete .*get it again"),
    "text.png": (lambda: b"Call me Ishmael.", "neither a picture nor a PDF, whatever its name says"),
    "encrypted.pdf": (ENCRYPTED.read_bytes, "is encrypted; save it without its password"),
    "pageless.pdf": (lambda: WITHOUT_PAGES, "a PDF without pages"),
    "damaged.pdf": (lambda: b"%PDF-1.4\nand no more", "damaged or not complete"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_page_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(DataError, match=message):
        count_pages(tmp_path / name)
        open_page(tmp_path / name, 1, 72)


def test_a_pdf_is_told_apart_whatever_was_refused_before_it(tmp_path: Path) -> None:
    """PDFium keeps its last error code; an earlier password must not make a damaged PDF an encrypted one."""
    for name in ("pageless.pdf", "damaged.pdf"):
        with pytest.raises(DataError, match="encrypted"):
            count_pages(ENCRYPTED)
        content, message = BAD[name]
        (tmp_path / name).write_bytes(content() + b"\n% /Encrypt")
        with pytest.raises(DataError, match=message if name != "pageless.pdf" else "without pages"):
            count_pages(tmp_path / name)


def test_a_page_of_too_many_pixels_is_refused_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MOST_PIXELS", 999)
    with pytest.raises(DataError, match="at dpi=144: choose dpi=29 or less"):
        open_page(pdf(tmp_path / "a.pdf", 1), 1, 144)
    assert open_page(tmp_path / "a.pdf", 1, 29).size <= 999
    with pytest.raises(DataError, match="64 x 64 pixels are too many"):
        open_page(picture(tmp_path / "a.png"), 1, 144)


def test_a_page_that_a_pdf_promises_and_lacks_is_named(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", 2)
    count_pages(path)
    with pytest.raises(DataError, match="cannot be rendered"):
        open_page(path, 3, 72)
