"""Rules on whole matrices give the same weights however the matrices are split."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from ranks import free_ports, launch

from tests.train.optimizer.whole_ranks import LAYOUTS, RULES, STEPS, gradient_of, play, stepped


@pytest.fixture(scope="module")
def split() -> list[Any]:
    return launch(play, 2, free_ports(len(LAYOUTS)))


@pytest.fixture(scope="module")
def whole() -> Iterator[dict[str, dict[str, np.ndarray]]]:
    from parallel.topology import Topology, start, stop
    from train.config import ParallelConfig

    start(Topology(), seed=0)
    yield {rule: assembled(stepped(rule, ParallelConfig())) for rule in RULES}
    stop()


def assembled(pieces: Any) -> dict[str, np.ndarray]:
    """Whole tensors of the pieces; what no piece covers stays nan."""
    found: dict[str, np.ndarray] = {}
    for key, shape, place, values in pieces:
        found.setdefault(key, np.full(shape, np.nan))[place] = values
    return found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_split_matrices_are_stepped_as_whole_ones(split: list[Any], whole: Any, layout: str, rule: str) -> None:
    """fp64, the same gradients: the gathered matrices are the same to the last bit, and so is all that follows."""
    found = assembled(piece for rank in split for piece in rank[layout, rule])
    assert found.keys() == whole[rule].keys() and len(found) > 20
    for key, values in whole[rule].items():
        np.testing.assert_allclose(found[key], values, rtol=0, atol=1e-10, err_msg=key)


def test_muon_on_one_process_is_torchs(whole: Any) -> None:
    """A fused matrix, and one expert of a stack. Newton-Schulz runs in bf16 in both, which rounds otherwise in a batch."""
    from tests.train.model.small_model import small_model, without_zeros
    from tests.train.optimizer import oracles
    from train.model.optical import build

    start = dict(without_zeros(build(small_model(), 100, seed=1).double()).state_dict())
    config, fc1 = oracles.SETTINGS["muon"], "decoder.decoder.layers.1.mlp.experts.experts.linear_fc1.weight"
    qkv = "decoder.decoder.layers.1.self_attention.linear_qkv.weight"
    cases = {qkv: start[qkv], fc1: start["decoder.decoder.layers.1.mlp.experts.fc1"][3]}
    for key, first in cases.items():
        weight = torch.nn.Parameter(first.clone())
        theirs = torch.optim.Muon(
            [weight], lr=config.lr, weight_decay=oracles.DECAY, momentum=config.momentum, adjust_lr_fn="match_rms_adamw"
        )
        for step in range(STEPS):
            gradient = gradient_of(key, whole["muon"][key].shape, step)
            weight.grad = gradient[3] if gradient.ndim == 3 else gradient
            theirs.step()
        ours = torch.from_numpy(whole["muon"][key])
        ours = ours[3] if ours.ndim == 3 else ours
        way = (weight.detach() - first).norm()
        assert (ours - weight.detach()).norm() < 0.01 * way, key
