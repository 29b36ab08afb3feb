"""A reader finds any sample by number, and says what is wrong with one; streams and addresses have tests of their own."""

import os
import pickle
from pathlib import Path

import pytest

from data_pipeline.errors import SampleError
from data_pipeline.index import ShardIndex
from data_pipeline.reader import ShardReader
from data_pipeline.record import encode
from tests.data_pipeline.shard_sets import a_record, flip, write_set

COUNTS = [5, 3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path / "prose", COUNTS)
    return tmp_path / "prose"


def test_samples_are_the_bytes_that_were_written_in_any_order(folder: Path) -> None:
    reader = ShardReader("prose", folder)
    for shard, sample, number in ((1, 2, 7), (0, 0, 0), (1, 0, 5), (0, 4, 4)):
        assert reader.read(shard, sample) == encode(a_record(number))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"offset": 10**9}, "damaged index"),
        ({"offset": -1}, "damaged index"),
        ({"size": -1}, "damaged index"),
        ({"size": 3}, "checksum"),
    ],
)
def test_an_index_that_lies_is_noticed(folder: Path, change: dict[str, int], reason: str) -> None:
    path = folder / "shard-00000.tar"
    index = ShardIndex.load(path)
    offset, size = index.samples[1].parts["json"]
    index.samples[1].parts["json"] = (change.get("offset", offset), change.get("size", size))
    index.save(path)
    reader = ShardReader("prose", folder)
    with pytest.raises(SampleError) as refused:
        reader.read(0, 1)
    assert refused.value.reason == reason
    assert reader.read(0, 2)["__key__"] == "prose-00002"


def test_any_flipped_byte_of_a_sample_is_noticed(folder: Path) -> None:
    entry = ShardIndex.load(folder / "shard-00000.tar").samples[3]
    for offset, size in entry.parts.values():
        for place in (offset, offset + size // 2, offset + size - 1):
            flip(folder / "shard-00000.tar", place)
            with pytest.raises(SampleError, match="prose-00003: checksum differs"):
                ShardReader("prose", folder).read(0, 3)
            flip(folder / "shard-00000.tar", place)
    assert ShardReader("prose", folder).read(0, 3)["__key__"] == "prose-00003"


@pytest.mark.fault(
    "truncated or missing shard",
    injected="a shard is cut while it is open",
    handled="the samples beyond the cut are named",
    lost="those samples",
)
def test_a_shard_that_is_cut_off_while_it_is_read_is_noticed(folder: Path) -> None:
    reader = ShardReader("prose", folder)
    reader.read(0, 0)
    os.truncate(folder / "shard-00000.tar", 2000)
    with pytest.raises(SampleError) as refused:
        reader.read(0, 4)
    assert refused.value.reason == "truncated shard"


def test_another_process_gets_a_reader_with_what_it_knows_but_no_open_files(folder: Path) -> None:
    (folder / "shard-00001.tar").unlink()
    reader = ShardReader("prose", folder, max_bad_fraction=0.5)
    first = reader.read(0, 0)
    again = pickle.loads(pickle.dumps(reader))
    reader.close()
    assert again.read(0, 0) == first
    with pytest.raises(SampleError) as refused:
        again.read(1, 0)
    assert (refused.value.reason, str(refused.value)) == ("missing shard", "shard-00001.tar is missing")
