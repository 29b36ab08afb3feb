"""Shard sets, pictures, predictions and lists of pages that a stranger made."""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.batch import BatchSpec, Collator
from data_pipeline.errors import DataError, SampleError
from data_pipeline.index import ShardIndex
from data_pipeline.lengths import Lengths
from data_pipeline.manifest import Manifest
from data_pipeline.page_file import decode_page, page_size
from data_pipeline.predictions import decode as decode_predictions
from data_pipeline.reader import ShardReader
from data_pipeline.record import decode as decode_record
from data_pipeline.tokenizer import byte_tokenizer
from tests.security.crafted import DEEP, npy, pipe, running
from tests.train.shard_set import make_records, write_shard_set
from train.evaluate.formats.page import read_json_list
from train.generate.journal import read_journals
from train.generate.pages import open_page

ENCAPSULATED = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\n%%EOF\n"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shard_set(tmp_path / "shards", make_records(3))


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_a_picture_is_of_the_format_it_says_and_of_a_page_s_size(extension: str) -> None:
    for data in (
        ENCAPSULATED,
        b"",
        b"\x00" * 64,
        running(Path("owned")),
        png_of(100_000, 100_000),
        png_of(2**31 - 1, 2**31 - 1),
    ):
        with pytest.raises(ValueError):
            decode_page(extension, data)
    with pytest.raises(ValueError):
        page_size(extension, ENCAPSULATED)


def test_no_program_is_called_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIL gives PostScript to Ghostscript, wherever PATH finds it and whatever the file is called."""
    mark = tmp_path / "owned"
    for name in ("gs", "gswin64c"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {mark}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    picture = tmp_path / "page.png"
    picture.write_bytes(ENCAPSULATED)
    with pytest.raises(DataError, match="neither a picture nor a PDF"):
        open_page(picture, 1, 200)
    with (
        Image.open(picture) as opened,
        pytest.raises(OSError),
    ):  # what PIL does when nobody tells it otherwise
        opened.load()
    assert mark.exists(), "the attack is none any more"


def test_a_page_of_too_many_pixels_is_refused_before_they_are_made(tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    for width, height in ((30_000, 30_000), (2**31 - 1, 2**31 - 1)):
        picture.write_bytes(png_of(width, height))
        with pytest.raises(DataError, match="too many|damaged"):
            open_page(picture, 1, 200)


@pytest.mark.parametrize(
    "map_",
    [npy("(1,)", body=running(Path("owned"))), npy("(10**15,)", "'|u1'"), npy("(1000000000000000,)", "'|u1'"), npy("(-1,)", "'|u1'"),
     npy("__import__('os').system('touch owned')", "'|u1'"), npy("(1,)", "[('a', '|O')]"), b"\x93NUMPY", b""],
)  # fmt: skip
def test_arrays_are_numbers_of_the_size_that_is_there(
    map_: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields = {
        "kind": "text",
        "prompt": "",
        "target": "a",
        "language": "en",
        "script": "",
        "source": "x",
        "license": "x",
        "seed": 0,
    }
    with pytest.raises(SampleError, match="glyphs"):
        decode_record(
            {"__key__": "a", "json": json.dumps(fields | {"glyph_cell": 8}).encode(), "glyphs.npy": map_}
        )
    sound = io.BytesIO()
    np.save(sound, np.zeros(1, np.int32))
    with pytest.raises(SampleError, match="predictions"):
        decode_predictions(
            {"__key__": "a", "labels.npy": sound.getvalue(), "ids.npy": map_, "logs.npy": map_}
        )
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content",
    [DEEP, b"{}", b"[1]", b'{"format": 1, "shards": 3}', b'{"format": 1, "shards": [[]], "samples": 0}'],
)
def test_a_manifest_that_is_none_is_one_message(shards: Path, content: bytes) -> None:
    (shards / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json"):
        Manifest.load(shards)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config", []),
        ("config", "kind"),
        ("sources", {}),
        ("name", 7),
        ("refused", [1]),
        ("text_bytes", "many"),
    ],
)
def test_a_manifest_of_other_types_is_one_message(shards: Path, field: str, value: object) -> None:
    content = json.loads((shards / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps(content | {field: value}))
    with pytest.raises(DataError, match=rf"malformed manifest.*{field}"):
        Manifest.load(shards)


@pytest.mark.parametrize("name", ["../shard-00000.tar", "/etc/passwd", "a/b.tar", "..", ""])
def test_a_shard_lies_in_its_folder(shards: Path, name: str) -> None:
    content = json.loads((shards / "manifest.json").read_text())
    content["shards"][0]["name"] = name
    (shards / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError):
        ShardReader("pages", shards).read(0, 0)


@pytest.mark.parametrize(
    "entry",
    [{"png": [10**15, 1]}, {"png": [0, 10**15]}, {"png": [-1, 5]}, {"json": [1e999, 5]}, {"png": ["a", "b"]}],
)
def test_an_index_points_into_its_shard_or_is_made_again(shards: Path, entry: dict) -> None:
    """A lie that has the right form is one bad sample; one that has not is no index, and a new one is made."""
    path = ShardIndex.path_for(shards / "shard-00000.tar")
    content = json.loads(path.read_text())
    content["samples"][0]["parts"] = entry
    path.write_text(json.dumps(content))
    reader = ShardReader("pages", shards)
    try:
        assert reader.read(0, 0)["__key__"] == make_records(3)[0].key
    except SampleError as error:
        assert "lies outside the shard" in str(error)
    assert reader.read(0, 1)["__key__"] == make_records(3)[1].key
    reader.close()


def test_pipes_and_deep_files_beside_shards_are_not_waited_for(shards: Path) -> None:
    path = ShardIndex.path_for(shards / "shard-00000.tar")
    path.write_bytes(DEEP)
    with pytest.raises(DataError, match="malformed index"):
        ShardIndex.load(shards / "shard-00000.tar")
    pipe(path)
    with pytest.raises(DataError, match="no plain file|cannot read"):
        ShardIndex.load(shards / "shard-00000.tar")
    pipe(shards / "shard-00000.tar")
    with pytest.raises(DataError, match="missing"):
        ShardReader("pages", shards)


def test_lists_of_pages_and_journals_of_readings(tmp_path: Path) -> None:
    (tmp_path / "pages.json").write_bytes(DEEP)
    with pytest.raises(DataError, match=r"pages\.json"):
        read_json_list(tmp_path / "pages.json")
    lines = [
        {"document": "a", "name": "../../a"},
        {"document": "b", "name": "/tmp/b"},
        {"document": "c", "name": "below/c"},
        {"document": "d", "name": 7},
    ]
    (tmp_path / "journal.jsonl").write_bytes(
        b"\n".join([DEEP, *(json.dumps(line).encode() for line in lines)])
    )
    assert read_journals(tmp_path).names == {"c": "below/c"}


def test_lengths_beside_a_shard_are_measured_anew_where_they_cannot_be(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    collator = Collator(byte_tokenizer(), BatchSpec(("64",), patch=4, max_length=256))
    right = [Lengths(ShardReader("pages", shards), collator).of(0, number) for number in range(3)]
    (kept,) = shards.glob("*.lengths-*.npy")
    lies = [[[0, 1]] * 3, [[300, 1]] * 3, [[5, -1]] * 3]
    arrays = [npy("(3, 2)", "'<i4'", np.array(lie, np.int32).tobytes()) for lie in lies]
    for content in (
        running(tmp_path / "owned"),
        npy("(3, 2)"),
        npy("(1000000000000000, 2)", "'<i4'"),
        *arrays,
    ):
        kept.write_bytes(content)
        assert [Lengths(ShardReader("pages", shards), collator).of(0, number) for number in range(3)] == right
    pipe(kept)
    assert Lengths(ShardReader("pages", shards), collator).of(0, 0) == right[0]
    assert not (tmp_path / "owned").exists()
