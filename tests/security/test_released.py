"""A folder of released weights from a stranger: tensors and numbers come out of it, and no code of its own runs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_pipeline.errors import UserError
from parallel import topology
from tests.security.crafted import DEEP, pipe, running
from tests.train.convert.folders import imported, released_folder, size, tensors
from train.convert.released import INDEX, Released, read_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released_folder(tmp_path / "released", size(), tensors(size()), shards=2)


def deep(folder: Path) -> None:
    (folder / INDEX).write_bytes(DEEP)


def numbers_for_names(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": 7}}))


def pickles(folder: Path) -> None:
    """What older releases are, under the name of the newer ones."""
    for file in folder.glob("*.safetensors"):
        file.write_bytes(running(folder / "owned"))


@pytest.mark.parametrize("damage", [deep, numbers_for_names, pickles])
def test_what_is_no_tensor_is_refused_by_name(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(UserError, match="safetensors"):
        Released(folder)
    assert not (folder / "owned").exists()


def test_pipes_are_not_waited_for(folder: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_json(pipe(folder / "config.json"))
    for file in folder.glob("*.safetensors"):
        pipe(file)
    with pytest.raises(UserError, match="safetensors"):
        Released(folder)


@pytest.fixture
def one_process() -> Iterator[None]:
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


def test_code_and_pickles_beside_the_weights_are_left_alone(
    folder: Path, tmp_path: Path, one_process: None
) -> None:
    """`trust_remote_code` models name modules to import in config.json; older ones have pickled weights."""
    mark = folder / "owned"
    for name in (
        "modeling_deepseekocr.py",
        "configuration_deepseek_v2.py",
        "__init__.py",
        "conftest.py",
        "torch.py",
    ):
        (folder / name).write_text(f"open({str(mark)!r}, 'w')\n")
    for name in ("pytorch_model.bin", "training_args.bin", "tokenizer.model", "model.pt", "optimizer.pkl"):
        (folder / name).write_bytes(running(mark))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = dict.fromkeys(
        ("AutoConfig", "AutoModel", "AutoTokenizer"), "modeling_deepseekocr.Evil"
    )
    config["quantization_config"] = None
    (folder / "config.json").write_text(json.dumps(config))
    imported(folder, tmp_path / "run")
    assert not mark.exists()
    left = [
        path.name for path in (tmp_path / "run").rglob("*") if path.suffix in (".py", ".bin", ".pkl", ".pt")
    ]
    assert not left, "what might run somewhere else is handed on"
