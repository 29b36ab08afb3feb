"""GPTQ is least squares, input by input; AWQ is torchao's search; both do less harm to what a matrix gives than the nearest does."""

import pytest
import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.transformer_config import TransformerConfig

pytest.importorskip("torchao", reason="torchao is absent: install the extra `quantize`")
from torchao.prototype.awq import AWQConfig
from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

from parallel.layers import Experts, Linear
from train.quantize.grid import Rounded, nearest
from train.quantize.methods import DAMPING, by_awq, by_gptq, gptq
from train.transform.quantize import FakeQuantize
from train.transform.rounding import Rounding, Scales

pytestmark = pytest.mark.usefixtures("one_process")
OUTPUTS, INPUTS, GROUP = 12, 64, 16


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def multiplied(rows: int = 400) -> torch.Tensor:
    """Inputs that depend on each other, some of them large, one always zero."""
    x = drawn(rows, 16) @ drawn(16, INPUTS, seed=5) + 0.3 * drawn(rows, INPUTS, seed=6)
    x *= torch.linspace(0.2, 3, INPUTS).flip(0)
    x[:, 7] = 0.0
    return x


def layer() -> Linear:
    made = Linear(TransformerConfig(num_layers=1, hidden_size=INPUTS, num_attention_heads=2), INPUTS, OUTPUTS)
    with torch.no_grad():
        made.weight.copy_(drawn(OUTPUTS, INPUTS, seed=1))
    return made


def by_least_squares(weight: torch.Tensor, rounding: Rounding, x: torch.Tensor) -> torch.Tensor:
    """After each input is rounded, the weights of all later ones are solved for anew, in fp64. Asymmetric: torchao's symmetric
    scales put the largest of a group on -7.5, which the last bit rounds up or down.
    """
    products = (x.T @ x).double()
    products.diagonal()[products.diagonal() == 0] = 1.0
    products.diagonal().add_(DAMPING * products.diagonal().mean())
    wanted, group, one = weight.double(), rounding.group or INPUTS, Rounding(rounding.bits, symmetric=False)
    left, found = wanted.clone(), torch.zeros_like(wanted)
    for column in range(INPUTS):
        if column % group == 0:
            scales = one.scales(*one.ranges(left[:, column : column + group].float()))
        done, rest = slice(0, column + 1), slice(column + 1, INPUTS)
        found[:, column : column + 1] = one.rounded(left[:, column : column + 1].float(), scales)
        made_good = torch.linalg.solve(
            products[rest, rest], products[rest, done] @ (wanted - found)[:, done].T
        ).T
        left[:, rest] = wanted[:, rest] + made_good
    return found.float()


@pytest.mark.parametrize("group", [GROUP, 0], ids=["groups", "rows"])
def test_gptq_is_least_squares(group):
    weight, rounding = drawn(OUTPUTS, INPUTS, seed=1), Rounding(4, group, symmetric=False)
    integers, scales = gptq(weight, rounding, multiplied())
    assert scales.scale.shape == (OUTPUTS, INPUTS // group if group else 1)
    found = rounding.restored(integers, scales, torch.float32)
    torch.testing.assert_close(found, by_least_squares(weight, rounding, multiplied()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_both_change_what_a_matrix_gives_less_than_the_nearest_does(bits):
    made = layer()
    (site,) = made.sites()
    rounding = Rounding(bits, GROUP)
    plain = nearest(site, FakeQuantize(site, rounding))
    x, fresh = multiplied(), multiplied(600)[400:]

    def harm(value: Rounded) -> float:
        return ((value.used - made.weight) @ fresh.T).square().mean().item()

    assert harm(by_gptq(site, rounding, [x])) < 0.8 * harm(plain)
    assert harm(by_awq(site, rounding, [x])) < harm(plain)


def test_awq_is_torchaos():
    made = layer()
    (site,) = made.sites()
    model = torch.nn.Sequential(torch.nn.Linear(INPUTS, OUTPUTS, bias=False))
    model[0].weight.data = made.weight.detach().clone()
    base = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(GROUP))
    quantize_(model, AWQConfig(base, step="prepare"))
    model(multiplied())
    stretch = model[0].act_obs.calculate_qparams()
    stretched = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
    stretched.weight.data = made.weight.detach() * stretch
    expected = torch.nn.Sequential(stretched)
    quantize_(expected, base)
    theirs = expected[0].weight.dequantize() / stretch
    assert torch.equal(by_awq(site, Rounding(4, GROUP), [multiplied()]).used, theirs)


def test_an_expert_that_nothing_came_to_is_rounded_to_the_nearest():
    shape = TransformerConfig(num_layers=1, hidden_size=INPUTS, num_attention_heads=2)
    shape.moe_ffn_hidden_size = GROUP
    experts = Experts(2, shape, pg_collection=ProcessGroupCollection.use_mpu_process_groups())
    (site, _) = experts.sites()
    with torch.no_grad():
        site.weight.copy_(drawn(*site.weight.shape))
    rounding = Rounding(4, GROUP)
    plain = nearest(site, FakeQuantize(site, rounding))
    for method in (by_gptq, by_awq):
        value = method(site, rounding, [multiplied(), multiplied(0)])
        assert torch.equal(value.used[1], plain.used[1])
    value = by_gptq(site, rounding, [multiplied(), multiplied(0)])
    assert not torch.equal(value.used[0], plain.used[0])
    assert value.integers.shape == site.weight.shape and isinstance(value.scales, Scales)
