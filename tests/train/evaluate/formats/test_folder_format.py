"""A folder of pictures with their texts."""

from pathlib import Path

import pytest
from PIL import Image

from data_pipeline.errors import DataError
from train.evaluate.formats import READERS


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 255).save(path)


def test_pairs_are_pages_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "de/brief.2.webp"):
        picture(tmp_path / name)
    (tmp_path / "b.txt").write_text("\nSecond page.\n")
    (tmp_path / "a.md").write_bytes("\ufeff# First page".encode())
    (tmp_path / "de" / "brief.2.txt").write_text("Grüße", encoding="utf-8")
    found = READERS["folder"](tmp_path)
    assert [(page.key, page.reference, page.kind) for page in found.pages] == [
        ("a", "# First page", "markdown"),
        ("b", "Second page.", "text"),
        ("de/brief.2", "Grüße", "text"),
    ]
    assert [page.picture.name for page in found.pages] == ["a.jpg", "b.png", "brief.2.webp"]
    assert found.left_out == {}
    assert found.told() is None


def test_what_has_no_partner_or_no_text_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    for name in ("good.png", "mute.png", "binary.png"):
        picture(tmp_path / name)
    (tmp_path / "good.txt").write_text("Good.")
    (tmp_path / "blind.md").write_text("No picture.")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    found = READERS["folder"](tmp_path)
    assert [page.key for page in found.pages] == ["good"]
    assert set(found.left_out) == {"mute", "blind", "binary"}
    told = found.told()
    assert told is not None
    assert told.startswith("3 of 4 pages are left out: ")
    assert "mute (no mute.txt or mute.md says what it shows)" in told
    assert "beside blind.md" in told
    assert "binary.txt is no readable UTF-8 text" in told


def test_many_left_out_pages_are_counted_and_some_named(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "good.txt").write_text("Good.")
    for number in range(12):
        picture(tmp_path / f"mute{number:02}.png")
    told = READERS["folder"](tmp_path).told()
    assert told is not None
    assert told.startswith("12 of 13 pages")
    assert told.endswith("and 7 more")


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no picture with its text beside it.*0 other files"):
        READERS["folder"](tmp_path)
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="1 of 1 pages are left out: a "):
        READERS["folder"](tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        READERS["folder"](tmp_path / "nowhere")
