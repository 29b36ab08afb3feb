"""Rounded weights are what torchao's fake quantizers and integer tensors make of them: values and gradients to the last bit
where the order of operations is the same, 1e-6 elsewhere.
"""

import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.transformer_config import TransformerConfig

pytest.importorskip("torchao", reason="torchao is absent: install the extra `quantize`")
from torchao.quantization import MappingType
from torchao.quantization.qat import IntxFakeQuantizeConfig
from torchao.quantization.qat.fake_quantize_config import Float8FakeQuantizeConfig
from torchao.quantization.qat.fake_quantizer import Float8FakeQuantizer, IntxFakeQuantizer
from torchao.quantization.qat.linear import FakeQuantizedLinear
from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
    IntxUnpackedToInt8Tensor,
)

from parallel.layers import Convolution, Experts, Linear, fold, take_off, transforms_in
from tests.train.model.small_model import noise_pages, without_zeros
from train.config import Config, QuantizeConfig
from train.quantize.grid import converted
from train.transform.attach import attach
from train.transform.quantize import FakeQuantize
from train.transform.rounding import Rounding

pytestmark = pytest.mark.usefixtures("one_process")
INPUTS, OUTPUTS = 64, 24
GRAINS = list(itertools.product((2, 3, 4, 8), (0, 16)))


def shape() -> TransformerConfig:
    made = TransformerConfig(num_layers=1, hidden_size=INPUTS, num_attention_heads=2)
    made.moe_ffn_hidden_size = OUTPUTS
    return made


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def layer(rounding: Rounding, activations: bool = False, learned: bool = False) -> Linear:
    made = Linear(shape(), INPUTS, OUTPUTS)
    with torch.no_grad():
        made.weight.copy_(drawn(OUTPUTS, INPUTS, seed=1))
        made.bias.copy_(drawn(OUTPUTS, seed=2))
    (site,) = made.sites()
    site.attach("quantize", FakeQuantize(site, rounding, activations, learned))
    return made


def theirs(bits: int, group: int, activations: bool) -> FakeQuantizedLinear:
    weights = IntxFakeQuantizeConfig(
        getattr(torch, f"int{bits}"), None if group else "per_channel", group_size=group or None
    )
    tokens = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False) if activations else None
    made = FakeQuantizedLinear(INPUTS, OUTPUTS, True, tokens, weights)
    made.load_state_dict({"weight": drawn(OUTPUTS, INPUTS, seed=1), "bias": drawn(OUTPUTS, seed=2)})
    return made


def learn(module: torch.nn.Module, steps: int = 5) -> tuple[list[float], torch.Tensor]:
    """Losses, and the gradient of what is read in the last step."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        x = drawn(3, 5, INPUTS, seed=step).requires_grad_()
        loss = (module(x) - drawn(3, 5, OUTPUTS, seed=9)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert x.grad is not None
    return losses, x.grad


@pytest.mark.parametrize("activations", [False, True], ids=["weights", "weights and activations"])
@pytest.mark.parametrize(("bits", "group"), GRAINS)
def test_a_linear_layer_learns_as_torchaos_fake_quantized_one_does(bits, group, activations):
    ours, other = layer(Rounding(bits, group), activations), theirs(bits, group, activations)
    (losses, gradient), (expected, expected_gradient) = learn(ours), learn(other)
    assert losses == expected
    assert torch.equal(gradient, expected_gradient)
    assert torch.equal(ours.weight, other.weight) and torch.equal(ours.bias, other.bias)


@pytest.mark.parametrize(("bits", "group"), GRAINS)
def test_asymmetric_rounding_is_that_of_torchaos_integer_tensors(bits, group):
    """torchao's own fake quantizer does not offer it for weights."""
    ours = layer(Rounding(bits, group, symmetric=False))
    tensor = IntxUnpackedToInt8Tensor.from_hp(
        ours.weight.detach(),
        (1, group or INPUTS),
        getattr(torch, f"int{bits}"),
        mapping_type=MappingType.ASYMMETRIC,
    )
    assert torch.equal(ours.used(), tensor.dequantize())


def test_float8_values_are_those_of_torchaos_fake_quantizer_and_zeros_stay():
    ours, float8 = (
        layer(Rounding(8, float8=True), activations=True),
        Float8FakeQuantizer(Float8FakeQuantizeConfig()),
    )
    assert torch.equal(ours.used(), float8(ours.weight))
    x = drawn(2, 7, INPUTS)
    assert torch.equal(ours(x), F.linear(float8(x), float8(ours.weight), ours.bias))
    x.requires_grad_()
    ours(x).sum().backward()
    expected = float8(x).flatten(0, 1).sum(0).expand(OUTPUTS, -1)
    torch.testing.assert_close(ours.weight.grad, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        ours.weight[3] = 0.0
    assert not ours.used()[3].any()


@pytest.mark.parametrize(("bits", "group"), GRAINS)
def test_learned_scales_get_the_gradient_of_torchaos_range_learning(bits, group):
    ours = layer(Rounding(bits, group), learned=True)
    settings = IntxFakeQuantizeConfig(
        getattr(torch, f"int{bits}"), None if group else "per_channel", group_size=group or None,
        is_dynamic=False, range_learning=True,
    )  # fmt: skip
    other, weight = IntxFakeQuantizer(settings), ours.weight.detach().clone().requires_grad_()
    other._initialized = True
    other(weight)
    (rounding,) = transforms_in(ours)
    with torch.no_grad():  # past where scales begin: some weights are out of range then
        rounding.log_scale -= 0.3
        other.scale.copy_(rounding.log_scale.exp())
    weighed = drawn(OUTPUTS, INPUTS, seed=4)
    used, expected = ours.used(), other(weight)
    (used * weighed).sum().backward()
    (expected * weighed).sum().backward()
    assert torch.equal(used, expected)
    assert torch.equal(ours.weight.grad, weight.grad) and (weight.grad == 0).any()
    torch.testing.assert_close(rounding.log_scale.grad, other.scale.grad * other.scale, rtol=1e-5, atol=1e-5)
    assert not rounding.log_scale.decays


@pytest.mark.parametrize("activations", [False, True], ids=["weights", "weights and activations"])
def test_each_expert_is_rounded_as_a_linear_layer_of_its_own(activations):
    counts = torch.tensor([5, 0, 7])
    experts = Experts(3, shape(), pg_collection=ProcessGroupCollection.use_mpu_process_groups())
    with torch.no_grad():
        for site in experts.sites():
            site.weight.copy_(drawn(*site.weight.shape, seed=len(site.parameter)) / 4)
            site.attach("quantize", FakeQuantize(site, Rounding(4, 8), activations))
    x, weights = drawn(12, INPUTS).requires_grad_(), drawn(12, seed=3).abs().requires_grad_()
    experts(x, counts, weights)[0].square().sum().backward()

    y, routing = x.detach().clone().requires_grad_(), weights.detach().clone().requires_grad_()
    apart = {name: getattr(experts, name).detach().clone().requires_grad_() for name in ("fc1", "fc2")}
    rounded = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int4, group_size=8))
    tokens = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False))
    look = tokens if activations else torch.nn.Identity()
    for number, (rows, part) in enumerate(zip(y.split(counts.tolist()), routing.split(counts.tolist()))):
        if not len(rows):
            continue
        gate, up = F.linear(look(rows), rounded(apart["fc1"][number])).chunk(2, -1)
        active = F.silu(gate) * up * part[:, None]
        F.linear(look(active), rounded(apart["fc2"][number])).square().sum().backward()
    for name, ours, other in (("x", x, y), ("routing", weights, routing),
                              *((name, getattr(experts, name), apart[name]) for name in apart)):  # fmt: skip
        band = 1e-5 * other.grad.abs().max().item()
        torch.testing.assert_close(
            ours.grad, other.grad, rtol=0, atol=band, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert not experts.fc1.grad[1].any(), "an expert that nothing came to"


def test_a_kernel_is_rounded_by_output_and_bf16_as_torchao_does():
    kernel = Convolution(4, 6, 3)
    (site,) = kernel.sites()
    site.attach("quantize", FakeQuantize(site, Rounding(4)))
    other = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int4, "per_channel"))
    assert torch.equal(kernel.used().flatten(1), other(kernel.weight.flatten(1)))
    ours = layer(Rounding(4, 16)).to(torch.bfloat16)
    grouped = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int4, group_size=16))
    assert ours.used().dtype == torch.bfloat16 and torch.equal(ours.used(), grouped(ours.weight))


@pytest.mark.parametrize(
    "quantize",
    [
        QuantizeConfig(bits=4, group=16),
        QuantizeConfig(bits=3, group=0, symmetric=False),
        QuantizeConfig(bits=2, group=16, scales="learned"),
        QuantizeConfig(bits=8, numbers="fp8", group=0),
    ],
    ids=["int4", "int3 asymmetric", "int2 learned", "fp8"],
)
def test_a_model_of_integers_computes_what_the_fake_quantized_one_did(small_optical, quantize):
    config, model = small_optical
    without_zeros(model).eval()
    masters = {name: value.clone() for name, value in model.state_dict().items() if value is not None}
    quantize.targets = ["attention", "dense", "shared_experts", "experts", "window", "global", "projector"]
    attach(Config(model=config, quantize=quantize), model)
    count = len(transforms_in(model))
    with torch.no_grad():
        fake = model(noise_pages()).logits
        found = converted(model)
        real = model(noise_pages()).logits
    assert torch.equal(real, fake)
    assert len(found) == count > 20 and not transforms_in(model)
    for name, value in found.items():
        dtype = torch.float8_e4m3fn if quantize.numbers == "fp8" else torch.int8
        assert value.integers.dtype == dtype, name
        if quantize.numbers == "int":
            low, high = value.integers.min(), value.integers.max()
            assert -(2 ** (quantize.bits - 1)) <= low < high < 2 ** (quantize.bits - 1), name
    model.load_state_dict(masters, strict=False)


def test_folding_makes_rounded_values_the_weights():
    ours = layer(Rounding(3, 16))
    used = ours.used().detach().clone()
    fold(ours)
    assert torch.equal(ours.weight, used) and ours.chain() is None
    again = layer(Rounding(3, 16))
    before = again.weight.detach().clone()
    take_off(again)
    assert torch.equal(again.weight, before)


def test_what_is_off_loads_no_torchao():
    code = "import sys, train.transform.attach, train.stage; sys.exit('torchao' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
