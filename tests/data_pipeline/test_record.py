import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipeline.errors import SampleError
from data_pipeline.record import BLANK, Box, Record, decode, encode, glyph_class, page_names
from tests.data_pipeline.shard_sets import a_record


def same(first: Record, second: Record) -> bool:
    scalars = all(
        getattr(first, name) == getattr(second, name)
        for name in first.__dataclass_fields__
        if name not in ("pages", "glyphs")
    )
    pages = len(first.pages) == len(second.pages) and all(
        np.array_equal(mine, theirs) for mine, theirs in zip(first.pages, second.pages, strict=True)
    )
    return scalars and pages and np.array_equal(first.glyphs, second.glyphs)


@pytest.mark.parametrize("pages", [0, 1, 2, 11])
def test_a_record_comes_back_as_it_was_written(pages):
    record = a_record(7, pages=pages)
    assert same(decode(encode(record)), record)


def test_colour_pages_and_maps_that_do_not_divide_the_page_come_back():
    page = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    record = replace(a_record(1), pages=(page,), glyphs=np.full((8, 11), 9, np.uint8))
    assert same(decode(encode(record)), record)


@given(st.text(), st.text())
@settings(max_examples=50, deadline=None)
def test_any_unicode_text_survives_a_shard(prompt, target):
    record = replace(a_record(0, pages=0), prompt=prompt, target=target)
    assert same(decode(encode(record)), record)


def test_the_same_record_gives_the_same_bytes():
    assert encode(a_record(3)) == encode(a_record(3))


def test_several_pages_are_read_in_order_of_their_numbers_beyond_nine():
    names = {f"{number}.png": b"" for number in reversed(range(12))}
    assert page_names({"__key__": "k", "json": b"", "glyphs.npy": b"", **names}) == [
        f"{n}.png" for n in range(12)
    ]


@pytest.mark.parametrize(
    ("field", "value", "names"),
    [
        ("key", "with.dot", ""),
        ("key", "../escape", ""),
        ("key", "k" * 81, ""),
        ("kind", "", ""),
        ("license", "", ""),
        ("target", "lone \ud800 surrogate", ""),
        ("target", 5, ""),
        ("seed", 1.5, ""),
        ("pages", (np.zeros((4, 4), np.float32),), ""),
        ("pages", (np.zeros((0, 4), np.uint8),), ""),
        ("pages", (), "glyphs"),
        ("boxes", (Box("word", "a", 9, 0, 1, 1),), ""),
        ("boxes", (Box("glyph", "a", 0, 0, 1, 1),), ""),
        ("boxes", (Box("word", "a", 0, 0, float("nan"), 1),), ""),
        ("boxes", (Box("word", "a", 0, 0, 1, 1, page=1),), ""),
        ("glyphs", np.zeros((8, 9), np.uint8), ""),
        ("glyphs", np.zeros((8, 8), np.int64), ""),
        ("glyphs", None, "glyph_cell"),
        ("glyph_cell", 0, ""),
    ],
)
def test_an_invalid_field_is_refused_before_it_is_written(field, value, names):
    with pytest.raises(SampleError) as refused:
        encode(replace(a_record(1), **{field: value}))
    assert refused.value.reason == "invalid record"
    assert (names or field) in str(refused.value)


def damaged(**parts) -> dict:
    sample = encode(a_record(5))
    sample.update(parts)
    return {name: part for name, part in sample.items() if part is not None}


def json_with(**fields) -> bytes:
    return json.dumps({**json.loads(encode(a_record(5))["json"]), **fields}).encode()


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"png": b"not an image"}, "bad image"),
        ({"png": encode(a_record(5))["png"][:-40]}, "bad image"),
        ({"png": b""}, "bad image"),
        ({"json": b"{"}, "invalid json"),
        ({"json": b"\xff\xfe"}, "invalid json"),
        ({"json": b"[]"}, "invalid json"),
        ({"json": b"[" * 100_000}, "invalid json"),
        ({"json": None}, "invalid json"),
        ({"json": b'{"kind": "page"}'}, "invalid json"),
        ({"json": json_with(boxes=[[1, 2]])}, "invalid json"),
        ({"json": json_with(boxes=None)}, "invalid json"),
        ({"json": json_with(target=None)}, "invalid record"),
        ({"glyphs.npy": b"\x93NUMPY garbage"}, "bad glyph map"),
        ({"glyphs.npy": None}, "invalid record"),
    ],
)
def test_a_damaged_part_is_named_with_its_key_and_a_reason(parts, reason):
    with pytest.raises(SampleError, match="prose-00005") as refused:
        decode(damaged(**parts))
    assert refused.value.reason == reason


@given(st.integers(0, 2000), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_flipped_byte_of_an_image_is_a_sample_error_or_an_image_but_never_a_crash(offset, mask):
    data = bytearray(encode(a_record(5))["png"])
    data[offset % len(data)] ^= mask
    try:
        decode(damaged(png=bytes(data)))
    except SampleError as error:
        assert error.reason in ("bad image", "invalid record")


def test_a_pickled_glyph_map_is_never_loaded(tmp_path):
    path = tmp_path / "map.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SampleError, match=r"glyphs\.npy"):
        decode(damaged(**{"glyphs.npy": path.read_bytes()}))


def image_bytes(image: Image.Image, path, **options) -> bytes:
    image.save(path, **options)
    return path.read_bytes()


def test_an_extension_admits_only_its_own_format(tmp_path):
    data = image_bytes(Image.new("L", (32, 32)), tmp_path / "page.bmp")
    with pytest.raises(SampleError, match=r"bad image png"):
        decode(damaged(png=data))


def test_pages_of_other_makers_are_read_upright_on_white_paper(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    photo = image_bytes(Image.new("RGB", (40, 20)), tmp_path / "photo.jpg", exif=exif)
    clear = image_bytes(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), tmp_path / "clear.png")
    lossless = image_bytes(Image.new("RGB", (8, 6), (10, 20, 30)), tmp_path / "page.webp", lossless=True)
    bilevel = image_bytes(Image.new("1", (8, 6), 1), tmp_path / "fax.png")
    plain = {"glyphs.npy": None, "json": json_with(boxes=[], glyph_cell=0)}

    def page(**parts):
        return decode(damaged(**{"png": None, **plain, **parts})).pages[0]

    assert page(jpg=photo).shape == (40, 20, 3)
    assert page(png=clear).tolist() == np.full((8, 8, 3), 255).tolist()
    assert page(webp=lossless)[0, 0].tolist() == [10, 20, 30]
    assert page(png=bilevel).tolist() == np.full((6, 8), 255).tolist()


def test_an_image_too_large_for_a_page_is_refused_before_its_pixels_are_decoded(tmp_path):
    bomb = image_bytes(Image.new("1", (9000, 9000)), tmp_path / "bomb.png")
    with pytest.raises(SampleError, match="9000 x 9000"):
        decode(damaged(png=bomb))


def test_glyph_classes_keep_ascii_apart_and_leave_the_unknown_class_free():
    printable = {glyph_class(chr(code)) for code in range(33, 127)}
    assert printable == set(range(1, 95))
    assert {glyph_class(character) for character in " \t\n\u00a0\u3000"} | {glyph_class("")} == {BLANK}
    assert {glyph_class(chr(code)) for code in range(0x4E00, 0x5000)} == set(range(95, 254))
    assert glyph_class("é") == 95 + 0xE9 % 159
    assert glyph_class("ab") == glyph_class("a")
