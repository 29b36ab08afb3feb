"""Released weights through our checkpoint and back: nothing changes, and little is in memory at a time."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.convert.folders import (
    exported,
    imported,
    read,
    released_folder,
    same_bytes,
    size,
    tensors,
)
from train.convert.names import PATCH_EMBEDDING, POSITION_IDS

pytestmark = pytest.mark.usefixtures("one_process")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_byte_and_every_field_comes_back(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    values = tensors(size(), dtype)
    source = released_folder(tmp_path / "released", size(), values, shards)
    imported(source, tmp_path / "run")
    exported(tmp_path / "run", tmp_path / "back", shard_size=3e-4)
    assert same_bytes(values, read(tmp_path / "back")) == []
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()


def test_shards_are_no_larger_than_asked_and_the_index_names_every_tensor(tmp_path: Path) -> None:
    values = tensors(size())
    imported(released_folder(tmp_path / "released", size(), values), tmp_path / "run")
    exported(tmp_path / "run", tmp_path / "back", shard_size=2e-4)
    files = sorted((tmp_path / "back").glob("*.safetensors"))
    assert len(files) > 3 and files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "back" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in values.values())
    assert set(index["weight_map"]) == set(values)
    for file in files:
        stored = {name for name, place in index["weight_map"].items() if place == file.name}
        assert sum(values[name].nbytes for name in stored) <= 2e5


def test_weights_of_mixed_formats_keep_theirs(tmp_path: Path) -> None:
    values = {
        name: value.float() if ".gate.weight" in name else value for name, value in tensors(size()).items()
    }
    imported(released_folder(tmp_path / "released", size(), values), tmp_path / "run")
    exported(tmp_path / "run", tmp_path / "back")
    assert same_bytes(values, read(tmp_path / "back")) == []


def test_a_copy_without_patch_embedding_comes_back_without_it(tmp_path: Path) -> None:
    values = tensors(size())
    del values[PATCH_EMBEDDING]
    imported(released_folder(tmp_path / "released", size(), values), tmp_path / "run")
    exported(tmp_path / "run", tmp_path / "back")
    assert same_bytes(values, read(tmp_path / "back")) == []


def test_position_ids_of_a_saved_again_copy_are_named_and_dropped(tmp_path: Path) -> None:
    values = tensors(size())
    more = {**values, POSITION_IDS: torch.arange(17)[None]}
    notes = imported(released_folder(tmp_path / "released", size(), more), tmp_path / "run")
    assert any(POSITION_IDS in note for note in notes)
    exported(tmp_path / "run", tmp_path / "back")
    assert same_bytes(values, read(tmp_path / "back")) == []


def test_a_copy_without_tokenizer_is_said_and_comes_back_without_one(tmp_path: Path) -> None:
    source = released_folder(tmp_path / "released", size(), tensors(size()))
    (source / "tokenizer.json").unlink()
    notes = imported(source, tmp_path / "run")
    assert any("data.tokenizer" in note for note in notes)
    exported(tmp_path / "run", tmp_path / "back")
    assert not (tmp_path / "back" / "tokenizer.json").exists()
    assert (tmp_path / "back" / "config.json").read_bytes() == (source / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("asked", "dtype", "word"), [("fp32", torch.float32, "float32"), ("bf16", torch.bfloat16, "bfloat16")]
)
def test_another_format_is_converted_and_said_in_config_json(
    tmp_path: Path, asked: str, dtype: torch.dtype, word: str
) -> None:
    values = tensors(size(), torch.float32)
    imported(released_folder(tmp_path / "released", size(), values), tmp_path / "run")
    exported(tmp_path / "run", tmp_path / "back", dtype=asked)
    assert (
        same_bytes({name: value.to(dtype) for name, value in values.items()}, read(tmp_path / "back")) == []
    )
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["torch_dtype"] == config["language_config"]["torch_dtype"] == word


MEASURE = """
import re, sys
from pathlib import Path
from parallel.topology import Topology, start, stop
start(Topology(), seed=0)
from tests.train.convert.folders import exported, imported, released_folder, size, tensors

def peak():  # of this process: getrusage's ru_maxrss begins at its parent's
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

source, run, back, small = map(Path, sys.argv[1:])
imported(released_folder(small / "released", size(), tensors(size())), small / "run")
exported(small / "run", small / "back")  # what libraries need does not count
before = peak()
exported(run, back) if run.exists() else imported(source, run)
print(peak() - before)
stop()
"""


def test_the_model_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """190 MB of weights, of which a layer's experts take 16 MB: both ways add less than half of it to the process."""
    model = size()
    decoder = replace(model.decoder, width=384, layers=13, experts=16, expert_ffn=384, ffn=512)
    model = replace(model, decoder=decoder)
    values = tensors(model)
    total = sum(value.nbytes for value in values.values())
    assert total > 180e6
    source = released_folder(tmp_path / "released", model, values, shards=2)
    for way in ("in", "out"):
        command = [sys.executable, "-c", MEASURE, source, tmp_path / "run", tmp_path / "back", tmp_path / way]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=120, check=True
        )
        added = int(done.stdout.split()[-1])
        print(f"{way}: {added / total:.2f} of the model")
        assert 0.01 * total < added < 0.5 * total, f"{way}: {added / total:.2f} of the model"
    assert same_bytes(values, read(tmp_path / "back")) == []
