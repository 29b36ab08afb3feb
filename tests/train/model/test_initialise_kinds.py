"""First weights by configuration: torch's own formulas, and the same in every layout."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from ranks import free_ports, launch

from tests.train.model.small_model import small_model
from train.config import InitConfig
from train.model.initialise import deviation

QKV = "decoder.decoder.layers.1.self_attention.linear_qkv.weight"
FC2 = "decoder.decoder.layers.2.mlp.experts.experts.linear_fc2.weight"
LAYOUTS: dict[str, dict[str, int]] = {"tensor 2": {"tensor": 2}, "pipeline 2": {"pipeline": 2}, "expert 2": {"expert": 2}}
KINDS = (InitConfig("xavier", 0.02, "depth"), InitConfig("normal", 0.02, "scaled"))


@pytest.mark.parametrize(
    ("kind", "torchs"), [("kaiming", torch.nn.init.kaiming_normal_), ("xavier", torch.nn.init.xavier_normal_)]
)
@pytest.mark.parametrize("shape", [(96, 300), (64, 16, 3, 3)])
def test_the_spread_is_that_of_torchs_own_function(kind: str, torchs: Any, shape: tuple[int, ...]) -> None:
    """Theirs is seen from what it drew: a few thousand numbers tell a deviation to some percent."""
    torch.manual_seed(0)
    drawn = float(torchs(torch.empty(200, *shape[1:]) if len(shape) == 4 else torch.empty(shape)).std())
    whole = (200, *shape[1:]) if len(shape) == 4 else shape
    assert deviation("encoder.compressor.conv1.weight", whole, InitConfig(kind)) == pytest.approx(drawn, rel=0.03)


def test_what_is_added_to_the_residual_stream_is_scaled_by_the_whole_models_layers_or_by_its_own_depth() -> None:
    sizes, shape = small_model(), (64, 32)  # 3 layers, of which this is the third
    factors = {"plain": 1.0, "scaled": 1 / math.sqrt(6), "depth": 1 / math.sqrt(6), "zero": 0.0}
    for residual, factor in factors.items():
        found = deviation(FC2, shape, InitConfig("normal", 0.1, residual), sizes)
        assert found == pytest.approx(0.1 * factor)
    first = FC2.replace("layers.2", "layers.0")
    assert deviation(first, shape, InitConfig("normal", 0.1, "depth"), sizes) == pytest.approx(0.1 / math.sqrt(2))
    block = "encoder.global.layers.0.fc2.weight"  # of the encoder's 2 layers
    assert deviation(block, shape, InitConfig("normal", 0.1, "scaled"), sizes) == pytest.approx(0.05)
    assert deviation(QKV, (192, 64), InitConfig("normal", 0.1, "scaled"), sizes) == 0.1


def drawn(sizes: dict[str, int]) -> dict[tuple[str, int], list[tuple[Any, ...]]]:
    """Pieces of this rank's first weights, for each kind."""
    from parallel.snapshot import cut, describe
    from tests.train.model.small_model import place
    from train.config import ParallelConfig
    from train.model.optical import build

    found = {}
    for number, init in enumerate(KINDS):
        module = build(small_model(), 100, ParallelConfig(**sizes), seed=3, init=init)
        pieces = [piece for entry in describe(module) for piece in cut(entry, entry.data, "")]
        found[init.kind, number] = [
            (piece.key, piece.shape, place(piece), np.array(piece.view().detach())) for piece in pieces
        ]
    return found


def play(ports: list[int]) -> dict[str, Any]:
    """Each layout on two ranks."""
    import os

    from parallel.topology import Topology, start, stop

    found = {}
    for (name, sizes), port in zip(LAYOUTS.items(), ports):
        os.environ["MASTER_PORT"] = str(port)
        data = 2 // (sizes.get("tensor", 1) * sizes.get("pipeline", 1))
        start(Topology(**sizes, data=data), seed=0)
        found[name] = drawn(sizes)
        stop()
    return found


@pytest.fixture(scope="module")
def split() -> list[dict[str, Any]]:
    return launch(play, 2, free_ports(len(LAYOUTS)))


@pytest.fixture(scope="module")
def alone() -> Any:
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    yield {kind: joined(pieces) for kind, pieces in drawn({}).items()}
    stop()


def joined(pieces: list[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for key, shape, where, values in pieces:
        found.setdefault(key, np.full(shape, np.nan))[where] = values
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_weights_are_the_same_however_the_model_is_split(split: Any, alone: Any, layout: str) -> None:
    for kind, whole in alone.items():
        found = joined([piece for rank in split for piece in rank[layout][kind]])
        assert found.keys() == whole.keys()
        assert all(np.array_equal(found[key], values) for key, values in whole.items())
        assert np.std(whole[QKV]) > 0 and np.std(whole["decoder.decoder.layers.2.self_attention.linear_proj.weight"]) > 0
