"""LoRA and DoRA compute what peft computes, in values, gradients and 50 optimizer steps, and what the papers say.

In fp64, where rounding is 1e-16 and 50 steps of AdamW leave 1e-12; the norm is checked in fp32 as well.
"""

import math
from typing import ClassVar

import peft
import pytest
import torch

from parallel.layers import fold
from tests.train.transform.layers import (
    RANK,
    SCALE,
    Stack,
    config,
    drawn,
    factorised,
    plain,
    sites_of,
    task,
)  # fmt: skip
from train.config import ModelConfig, TuneConfig
from train.targets import chosen, targets_of
from train.transform.attach import rank_of
from train.transform.low_rank import Factors, LowRank

EXACT = 1e-12
pytestmark = pytest.mark.usefixtures("one_process")
KINDS = pytest.mark.parametrize("magnitude", [False, True], ids=["LoRA", "DoRA"])


def tuned_by_peft(
    magnitude: bool, convolution: bool = False, dropout: float = 0.0, **options
) -> torch.nn.Module:
    """peft's model of the same layers, with the same first factors."""
    layers = [name for name, _ in plain(convolution).named_children()]
    options = {"r": RANK, "lora_alpha": SCALE * RANK, "lora_dropout": dropout} | options
    settings = peft.LoraConfig(use_dora=magnitude, target_modules=layers, **options)
    tuned = peft.get_peft_model(plain(convolution), settings, autocast_adapter_dtype=False)
    with torch.no_grad():
        for name in layers:
            a = getattr(tuned.base_model.model, name).lora_A["default"].weight
            a.data = drawn(f"{name} a", *a.flatten(1).shape).view(a.shape)
            b = getattr(tuned.base_model.model, name).lora_B["default"].weight
            b.data = b.data.double()
    return tuned


def factors_of_peft(tuned: torch.nn.Module, gradients: bool = False) -> dict[str, torch.Tensor]:
    """By our names: "row.a" and so on, in our shapes."""
    found = {}
    for name, layer in tuned.base_model.model.named_children():
        kinds = {"a": layer.lora_A["default"], "b": layer.lora_B["default"]}
        if layer.lora_magnitude_vector:
            kinds["m"] = layer.lora_magnitude_vector["default"]
        for kind, module in kinds.items():
            value = module.weight.grad if gradients else module.weight.detach()
            found[f"{name}.{kind}"] = value.flatten() if kind == "m" else value.flatten(1)
    return found


def our_factors(stack: Stack, gradients: bool = False) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{kind}": factor.grad if gradients else factor.detach()
        for name, site in sites_of(stack).items()
        for kind, factor in site.owner.chain()["low_rank"].named_parameters()
    }


def learn(model: torch.nn.Module, work, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(work.x) - work.target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], band: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=0, atol=band, msg=lambda text, name=name: f"{name}: {text}"
        )


@KINDS
@pytest.mark.parametrize("convolution", [False, True], ids=["linear", "with a convolution"])
def test_it_trains_as_peft_does(magnitude, convolution):
    work = task(convolution)
    ours, theirs = factorised(Stack(config(), convolution), magnitude), tuned_by_peft(magnitude, convolution)
    torch.testing.assert_close(ours(work.x), plain(convolution)(work.x), rtol=0, atol=EXACT)
    history = learn(ours, work, 10), learn(theirs, work, 10)
    assert_equal(our_factors(ours, gradients=True), factors_of_peft(theirs, gradients=True), EXACT)
    history = history[0] + learn(ours, work, 40), history[1] + learn(theirs, work, 40)
    assert history[0] == pytest.approx(history[1], abs=EXACT) and history[0][-1] < 0.7 * history[0][0]
    assert_equal(our_factors(ours), factors_of_peft(theirs), EXACT)
    torch.testing.assert_close(ours(work.x), theirs(work.x), rtol=0, atol=EXACT)


@KINDS
def test_dropout_leaves_out_what_peft_leaves_out(magnitude):
    work = task()
    ours, theirs = factorised(Stack(config()), magnitude, dropout=0.3), tuned_by_peft(magnitude, dropout=0.3)
    for module in (ours, theirs):
        torch.manual_seed(3)
        learn(module, work, 5)
    assert_equal(our_factors(ours), factors_of_peft(theirs), EXACT)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(work.x), theirs(work.x), rtol=0, atol=EXACT)


@KINDS
def test_a_weight_that_is_formed_gives_the_same_as_one_that_is_not(magnitude):
    """As before a mask or rounding: another link in the chain, which changes nothing here."""
    from parallel.layers import WeightTransform

    class Nothing(WeightTransform):
        axes: ClassVar = {}

        def forward(self, weight):
            return weight * 1.0

    work = task()
    short, long = factorised(Stack(config()), magnitude), factorised(Stack(config()), magnitude)
    for site in sites_of(long).values():
        site.attach("mask", Nothing())
    assert learn(short, work, 10) == pytest.approx(learn(long, work, 10), abs=EXACT)
    assert_equal(our_factors(short), our_factors(long), EXACT)


def test_rank_stabilised_factors_are_scaled_as_peft_scales_them():
    work, alpha = task(), 3.0
    ours = factorised(Stack(config()), True, scale=alpha / math.sqrt(RANK))
    theirs = tuned_by_peft(True, lora_alpha=alpha, use_rslora=True)
    learn(ours, work, 5), learn(theirs, work, 5)
    assert_equal(our_factors(ours), factors_of_peft(theirs), EXACT)


@KINDS
def test_folded_weights_compute_what_the_factors_did_and_peft_merges_the_same(magnitude):
    work = task(convolution=True)
    ours, theirs = factorised(Stack(config(), True), magnitude), tuned_by_peft(magnitude, True)
    learn(ours, work, 5), learn(theirs, work, 5)
    before = ours(work.x).detach()
    fold(ours)
    assert not any("transforms" in name for name, _ in ours.named_parameters())
    torch.testing.assert_close(ours(work.x), before, rtol=0, atol=EXACT)
    merged = theirs.merge_and_unload()
    for name, site in sites_of(ours).items():
        torch.testing.assert_close(site.weight, getattr(merged, name).weight, rtol=0, atol=EXACT)


def test_the_norm_is_that_of_the_sum_and_is_held_until_weights_change():
    stack = factorised(Stack(config()), True)
    learn(stack, task(), 3)
    for site in sites_of(stack).values():
        transform, weight = site.owner.chain()["low_rank"], site.weight
        expected = torch.linalg.norm(weight + SCALE * transform.b @ transform.a, dim=1)
        torch.testing.assert_close(transform.norm(weight), expected, rtol=0, atol=EXACT)
        assert transform.norm(weight) is transform.norm(weight)
        with torch.no_grad():
            transform.b.data.add_(1.0)  # as DeepSpeed does: torch does not see it
        transform.weights_changed()
        expected = torch.linalg.norm(weight + SCALE * transform.b @ transform.a, dim=1)
        torch.testing.assert_close(transform.norm(weight), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize(("dtype", "band"), [(torch.float32, 3e-7), (torch.bfloat16, 1e-3)])
def test_the_norm_is_as_good_as_torchs_in_fp32_and_within_a_rounding_in_bf16(dtype, band):
    """In bf16 a number is rounded by up to 4e-3."""
    from dataclasses import replace

    stack = Stack(replace(config(), params_dtype=dtype))
    site = next(stack.row.sites())
    transform = LowRank(site, Factors(RANK, SCALE, True), "row", 0)
    with torch.no_grad():
        transform.b.normal_(std=0.1)
    assert transform.a.dtype == torch.float32 and transform.norm(site.weight).dtype == torch.float32
    exact = torch.linalg.norm(site.weight.double() + SCALE * (transform.b.double() @ transform.a.double()), dim=1)
    assert (exact / site.weight.double().norm(dim=1) - 1).abs().max() > 0.05, "the factors change it"
    torch.testing.assert_close(transform.norm(site.weight).double(), exact, rtol=band, atol=0)


def test_experts_learn_as_a_linear_layer_of_peft_for_each_of_them():
    from tests.train.transform.experts import expert_task, learn_with_ours, learn_with_peft

    work = expert_task()
    ours, theirs = learn_with_ours(work, steps=20), learn_with_peft(work, steps=20)
    assert ours["losses"] == pytest.approx(theirs["losses"], abs=EXACT)
    assert_equal(ours["factors"], theirs["factors"], EXACT)


def test_first_factors_are_drawn_as_torch_draws_a_linear_layer():
    stack = factorised(Stack(config()), True)
    site = next(stack.row.sites())
    fresh = LowRank(site, Factors(RANK, SCALE, True), "row", seed=1)
    again, other = (
        LowRank(site, Factors(RANK, SCALE, True), "row", 1),
        LowRank(site, Factors(RANK, SCALE, True), "row", 2),
    )
    assert torch.equal(fresh.a, again.a) and not torch.equal(fresh.a, other.a)
    assert 0.8 / math.sqrt(fresh.a.shape[1]) < fresh.a.abs().max() <= 1 / math.sqrt(fresh.a.shape[1])
    assert not fresh.b.any() and fresh.m.decays is False


def test_each_layer_has_the_rank_of_the_last_entry_that_names_it():
    tune = TuneConfig("dora", rank=8, ranks={"experts": 2, "*.experts.fc2": 3})
    ranks = {
        target.name: rank_of(target, tune)
        for target in chosen(ModelConfig(), ["attention", "experts"], "tune.targets")
    }
    assert ranks["decoder.decoder.layers.1.self_attention.linear_qkv"] == 8
    assert ranks["decoder.decoder.layers.1.mlp.experts.fc1"] == 2
    assert ranks["decoder.decoder.layers.1.mlp.experts.fc2"] == 3


def test_every_target_exists_with_the_size_that_its_name_says(small_optical):
    from train.transform.sites import sites

    model, built = small_optical
    there = sites(built)
    named = {target.name: target for target in targets_of(model)}
    assert named.keys() == there.keys() - {"glyph_heads.patch", "glyph_heads.token"}
    for name, target in named.items():
        site = there[name]
        assert (target.outputs, target.inputs) == site.whole_shape[-2:] and target.kind == site.kind
        assert (site.split or "") == target.split, name
