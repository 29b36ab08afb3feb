"""Several samples in a row train as each in a row of its own does, in every layout; and the core of it, piece by piece.

The truth is plain torch on one process with a row a sample. Tolerances as in test_layouts.py: 1e-5 relative in fp32.
"""

from types import SimpleNamespace

import layouts
import numpy as np
import packed_ranks
import pytest
import torch
from megatron.core.transformer.enums import AttnMaskType
from packed_ranks import CASES
from ranks import asked, free_ports, launch

from parallel.layers import sequence_balance_loss
from parallel.layers.attention import CausalAttentionCore
from parallel.topology import Topology, start, stop

FP32 = 1e-5
SLOW = {  # what each of these adds is in two others, too; `make test-slow` runs them
    "one process, full recompute", "tensor 2, selective recompute", "pipeline 2, full recompute", "data 2, ZeRO-3",
    "pipeline 2 x expert 2, selective recompute",
}  # fmt: skip


@pytest.fixture(scope="module")
def initial(tmp_path_factory):
    """Folder of the first weights."""
    folder = tmp_path_factory.mktemp("packing")
    start(Topology(), seed=0)
    for variant in {case.variant for case in CASES.values()}:
        layouts.make_initial(folder, variant)
    stop()
    return folder


@pytest.fixture(scope="module")
def truth(initial):
    start(Topology(), seed=0)
    found = {
        variant: packed_ranks.reference(variant, initial)
        for variant in {case.variant for case in CASES.values()}
    }
    stop()
    return found


@pytest.fixture(scope="module")
def results(initial, request):
    """case -> what its ranks saw, of those that this run asks for."""
    found, wanted = {}, asked(request, test_packed_rows_train_as_each_sample_in_its_own_row_does)
    for world in (1, 2, 4):
        names = [name for name in wanted if CASES[name].world == world]
        if not names:
            continue
        ranks = launch(packed_ranks.play, world, names, free_ports(len(names)), str(initial), timeout=280)
        found |= {name: [rank[name] for rank in ranks] for name in names}
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES])
def test_packed_rows_train_as_each_sample_in_its_own_row_does(results, truth, name):
    expected = truth[CASES[name].variant]
    for rank in results[name]:
        for (loss, norm), (true_loss, true_norm) in zip(rank["history"], expected["history"], strict=True):
            assert true_norm > layouts.CLIP, "clipping is meant to be active"
            assert loss == pytest.approx(true_loss, rel=FP32)
            assert norm == pytest.approx(true_norm, rel=FP32)
        assert rank["sums"]["loss"] == pytest.approx(expected["nats"], rel=FP32)
    weights = layouts.assembled(results[name])
    assert weights.keys() == expected["weights"].keys()
    for key, value in weights.items():
        true = expected["weights"][key]
        assert np.abs(value - true).max() <= FP32 * max(np.abs(true).max(), 1.0), key


def core() -> CausalAttentionCore:
    config = SimpleNamespace(context_parallel_size=1, attention_dropout=0.0)
    return CausalAttentionCore(config, 1, AttnMaskType.causal, "self", softmax_scale=0.3)


LENGTHS = {
    "one row": (1, [1, 300, 7, 129, 563]),
    "two rows": (2, [100, 400, 11, 489]),
    "a row each": (3, [40, 40, 40]),
}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("kind", ["fp32", "fp64"])  # on a CPU, fp64 goes the way of a GPU
def test_attention_stays_within_each_sample(name, kind):
    rows, lengths = LENGTHS[name]
    torch.manual_seed(0)
    length = sum(lengths) // rows
    qkv = [torch.randn(length, rows, 3, 8, dtype=torch.float64) for _ in range(3)]
    bounds = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    sample = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).view(rows, length)
    seen = (sample[:, :, None] == sample[:, None, :]).tril()

    def by_a_mask(q, k, v):
        scores = 0.3 * torch.einsum("ibnh,jbnh->bnij", q, k)
        weights = scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
        return torch.einsum("bnij,jbnh->ibnh", weights, v).flatten(2)

    wanted = _with_gradients(by_a_mask, qkv)
    dtype, tolerance = (torch.float32, 4e-6) if kind == "fp32" else (torch.float64, 1e-12)
    found = _with_gradients(lambda *x: core()(*x, bounds), [x.to(dtype) for x in qkv])
    for one, other in zip(found, wanted):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def _with_gradients(function, inputs):
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs)]


def test_a_mask_in_the_place_of_bounds_is_refused():
    x = torch.randn(4, 1, 2, 8)
    with pytest.raises(ValueError, match="is not supported"):
        core()(x, x, x, torch.ones(1, 1, 4, 4, dtype=torch.bool))


def test_the_balance_loss_of_packed_rows_is_that_of_rows_with_a_sample_each():
    lengths, length, experts, topk = [[5, 9, 2], [13]], 16, 6, 2
    torch.manual_seed(0)
    packed = torch.rand(length, 2, experts).softmax(-1)
    chosen = torch.zeros_like(packed, dtype=torch.bool).scatter_(-1, packed.topk(topk, -1).indices, True)
    flat = [
        (row, sum(counts[:place]), count)
        for row, counts in enumerate(lengths)
        for place, count in enumerate(counts)
    ]
    members = torch.zeros(length, 2, 6, dtype=torch.bool)  # two more samples than there are
    alone = torch.zeros(3, length, len(flat), experts), torch.ones(length, len(flat), dtype=torch.bool)
    for number, (row, begin, count) in enumerate(flat):
        members[begin : begin + count, row, number] = True
        for kind, whole in enumerate((packed, chosen)):
            alone[0][kind, :count, number] = whole[begin : begin + count, row].float()
        alone[1][:count, number] = False
    wanted = sequence_balance_loss(alone[0][0], alone[0][1].bool(), alone[1], topk)
    torch.testing.assert_close(sequence_balance_loss(packed, chosen, members, topk), wanted)
    as_rows = sequence_balance_loss(packed, chosen, ~members.any(-1), topk)
    assert (as_rows - wanted).abs() > 0.01 * wanted
    assert sequence_balance_loss(packed, chosen, torch.zeros_like(members), topk) == 0
