"""A packed base is what bitsandbytes makes of it, learns as the same values unpacked do, and is kept by nothing else."""

import bitsandbytes
import pytest
import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef

from parallel.layers import ColumnLinear, fold
from tests.train.transform.layers import RANK, SCALE, config, drawn
from train.transform.low_rank import Factors, LowRank
from train.transform.nf4 import pack, rounded

INPUTS, OUTPUTS = 128, 96
pytestmark = pytest.mark.usefixtures("one_process")


def layer(packed: bool) -> ColumnLinear:
    """With DoRA's factors around a base of NormalFloat values, packed or as they are."""
    from dataclasses import replace

    made = ColumnLinear(replace(config(), params_dtype=torch.float32), INPUTS, OUTPUTS)
    with torch.no_grad():
        made.weight.copy_(drawn("weight", OUTPUTS, INPUTS).float())
        made.bias.copy_(drawn("bias", OUTPUTS).float())
    site = next(made.sites())
    rounded(site)
    made.requires_grad_(False)
    site.attach("low_rank", LowRank(site, Factors(RANK, SCALE, True), "layer", seed=0))
    if packed:
        pack(site)
    return made


def learn(made: ColumnLinear) -> tuple[list[float], dict[str, torch.Tensor]]:
    x, target = drawn("x", 1, 40, INPUTS).float(), drawn("target", 1, 40, OUTPUTS).float()
    factors = made.chain()["low_rank"]
    optimizer, losses = torch.optim.AdamW(factors.parameters(), lr=1e-2), []
    for _ in range(10):
        optimizer.zero_grad()
        loss = (made(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: value.detach() for name, value in factors.named_parameters()}


def test_a_packed_base_learns_as_its_values_do():
    (losses, factors), (expected, unpacked) = learn(layer(True)), learn(layer(False))
    assert losses == expected and losses[-1] < 0.9 * losses[0]
    for name, value in factors.items():
        assert torch.equal(value, unpacked[name]), "the same numbers in the same order"


def test_the_values_are_those_of_bitsandbytes_own_layer():
    theirs = bitsandbytes.nn.Linear4bit(
        INPUTS, OUTPUTS, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=False
    )
    theirs.load_state_dict(
        {"weight": drawn("weight", OUTPUTS, INPUTS).float(), "bias": drawn("bias", OUTPUTS).float()}
    )
    theirs, ours, x = theirs.to("cpu"), layer(True), drawn("x", 1, 40, INPUTS).float()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)
    assert not torch.allclose(
        ours(x),
        F.linear(x, drawn("weight", OUTPUTS, INPUTS).float(), drawn("bias", OUTPUTS).float()),
        atol=1e-2,
    )


def test_a_packed_base_takes_an_eighth_and_nothing_keeps_it_whole():
    made, whole = layer(True), 4 * OUTPUTS * INPUTS
    packed = made.chain()["packed"]
    assert sum(buffer.nbytes for buffer in packed.buffers()) == whole / 8 + 4 * OUTPUTS * INPUTS / 64
    assert "weight" not in dict(made.named_parameters()) and not any(
        "codes" in name for name in made.state_dict()
    )
    made_whole = []
    packed.register_forward_hook(
        lambda _, inputs, output: made_whole.append(StorageWeakRef(output.untyped_storage()))
    )
    y = made(drawn("x", 1, 4, INPUTS).float().requires_grad_())
    assert [weight.expired() for weight in made_whole] == [True], "autograd has not kept it"
    y.sum().backward()
    assert len(made_whole) == 2, "it was made again for the backward"


def test_packing_twice_changes_nothing():
    made, again = layer(False), layer(False)
    rounded(next(again.sites()))
    assert torch.equal(made.weight, again.weight)


def test_factors_alone_are_in_the_checkpoint_and_folding_needs_the_base():
    made = layer(True)
    assert {
        name.rpartition(".")[2]
        for name in made.sharded_state_dict(metadata={"dp_cp_group": None})
        if "low_rank" in name
    } == {"a", "b", "m"}
    reading = layer(False)
    with torch.no_grad():
        for one, other in zip(
            made.chain()["low_rank"].parameters(), reading.chain()["low_rank"].parameters()
        ):
            other.copy_(one.add_(0.1))
    x = drawn("x", 1, 4, INPUTS).float()
    expected = made(x)
    fold(reading)
    torch.testing.assert_close(reading(x), expected, rtol=0, atol=1e-5)
