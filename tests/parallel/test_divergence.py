"""Divergences from a teacher on logits that ranks share, against torch's F.kl_div and autograd on whole ones.

Tolerances, relative to the largest value: 1e-12 in fp64 and 1e-5 in fp32, where the order of additions differs.
"""

import divergence_ranks
import numpy as np
import pytest
import torch
from divergence_ranks import CASES
from ranks import launch

from parallel.layers import Asked, Divergence, OutputLayer, TeacherRows, Teaching, output
from parallel.topology import Topology, start, stop

TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


@pytest.fixture(scope="module")
def results():
    """World -> what its ranks found."""
    return {world: launch(divergence_ranks.play, world, world) for world in (1, 2)}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_torch_on_whole_logits(results, name, world, dtype):
    tolerance = TOLERANCES[dtype]
    wanted = divergence_ranks.expected(CASES[name], divergence_ranks.inputs(torch.float64))
    for sequence in (False, True)[:world]:
        ranks = [rank[name, dtype, sequence] for rank in results[world]]
        weight = np.concatenate([rank["weight"] for rank in ranks])
        hidden = np.concatenate([rank["hidden"] for rank in ranks]) if sequence else ranks[-1]["hidden"]
        for value, true in ((hidden, wanted["hidden"]), (weight, wanted["weight"])):
            assert np.abs(value - true).max() <= tolerance * np.abs(true).max()
        for rank in ranks:
            assert rank["sums"] == pytest.approx(wanted["sums"], rel=tolerance)


@pytest.fixture
def layer():
    from megatron.core.transformer.transformer_config import TransformerConfig

    start(Topology(), seed=0)
    config = TransformerConfig(
        num_layers=1, hidden_size=16, num_attention_heads=2, use_cpu_initialization=True
    )
    yield OutputLayer(16, 50, config=config, init_method=config.init_method, bias=False)
    stop()


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(layer, kind, top_k):
    torch.manual_seed(0)
    hidden, labels = torch.randn(20, 2, 16, requires_grad=True), torch.randint(0, 50, (2, 20))
    rows = hidden.detach().transpose(0, 1).flatten(0, 1)
    source = TeacherRows(rows, layer.weight.detach())
    teaching = Teaching(Divergence(kind, 2.0, top_k=top_k), source, next_token=0.0)
    found = layer(hidden, labels=Asked(labels, teaching=teaching))[0]
    gradients = torch.autograd.grad(found.loss, (hidden, layer.weight))
    assert abs(float(found.divergence)) < 1e-4 and max(float(one.abs().max()) for one in gradients) < 1e-5


def test_blocks_change_nothing_but_the_order_of_additions(layer, monkeypatch):
    torch.manual_seed(0)
    hidden, labels = torch.randn(150, 2, 16, requires_grad=True), torch.randint(0, 50, (2, 150))
    source = TeacherRows(torch.randn(300, 24), torch.randn(50, 24))
    found = []
    for block in (2**25, 64 * 4 * 50):
        monkeypatch.setattr(output, "_BLOCK", block)
        out = layer(hidden, labels=Asked(labels, teaching=Teaching(Divergence("jsd"), source)))[0]
        found.append(
            [out.loss, out.nats, out.divergence, *torch.autograd.grad(out.loss, (hidden, layer.weight))]
        )
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
