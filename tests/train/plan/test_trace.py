"""What the planner records without values, against real runs of the same models: kept activations, FLOPs, messages."""

import math
import os
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from ranks import free_ports, launch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conf.compose import compose
from data_pipeline.batch import MicroBatch
from parallel.layers import cpu_attention
from parallel.topology import Topology, environment, start, stop
from train.config import Config
from train.model.optical import build
from train.model.placement import Part
from train.objective import NextToken
from train.plan.config import DeviceConfig
from train.plan.holdings import freeze
from train.plan.pieces import Pieces, batch, group_kinds, names_in
from train.plan.trace import Cost, Recorder, Work, kept_storages

IMAGE = 258
CPU = DeviceConfig(fused_bias=False)
ENCODER, PRETRAIN = ["model=tiny", "stage=encoder", "data.max_length=64"], ["model=tiny", "stage=pretrain", "data.max_length=96"]
# another shape: attention over the page, relative positions stretched, no shared expert, an even share of heads
OTHER = [
    "model=tiny",
    "stage=encoder",
    "model.encoder.global_layers=[1]",
    "model.encoder.window_width=96",
    "data.modes=['96']",
    "model.decoder.shared_experts=0",
    "model.decoder.experts_per_token=3",
    "data.max_length=64",
]
ONE = {
    "encoder": ENCODER,
    "pretrain": [*PRETRAIN, "data.micro_batch=3"],
    "other": OTHER,
    "bf16": [*ENCODER, "engine.precision=bf16"],
    "selective": [*ENCODER, "engine.recompute=selective"],
    "full": [*PRETRAIN, "engine.recompute=full"],
}
TWO = {
    "tp2": [*ENCODER, "parallel.tensor=2"],
    "tp2_full": [*OTHER, "parallel.tensor=2", "engine.recompute=full"],
    "tp2_replicated": [*PRETRAIN, "parallel.tensor=2", "parallel.encoder=replicate"],
    "tp2_ep2": [*PRETRAIN, "parallel.tensor=2", "parallel.expert=2", "engine.recompute=selective"],
    "ep2": [*PRETRAIN, "parallel.expert=2"],
}


@dataclass
class Measured:
    kept: int
    sent: dict[str, float]


def configured(overrides: list[str]) -> Config:
    return compose("config", Config, ["data.micro_batch=2", *overrides])


def real_batch(config: Config) -> MicroBatch:
    """As the planner's, with pages where the model looks for them."""
    torch.manual_seed(environment()[0])
    values = batch(config, config.data.micro_batch, "cpu")
    values.tokens.random_(0, 250)
    values.labels.random_(0, 250)
    values.tokens[:, : len(values.layout) // config.data.micro_batch] = IMAGE
    for stack in values.views:
        stack.random_(0, 255)
    return values


def real_model(config: Config) -> torch.nn.Module:
    module = build(
        config.model, IMAGE, config.parallel, precision=config.engine.precision, recompute=config.engine.recompute
    )
    freeze(module, config)
    return module.train()


def loss_of(config: Config, module: torch.nn.Module) -> torch.Tensor:
    objective = NextToken(config.stage.objective.patch_glyphs, config.stage.objective.token_glyphs)
    return objective(module, real_batch(config), {"tokens": 1.0, "cells": 1.0}).loss


def measure(cases: dict[str, list[str]], ports: list[int]) -> dict[str, Measured]:
    """On each rank: bytes of all storages that autograd keeps, parameters left out, and bytes sent."""
    torch.set_num_threads(1)
    found = {}
    for (name, overrides), port in zip(cases.items(), ports):
        os.environ["MASTER_PORT"] = str(port)  # a world that follows another one meets elsewhere
        config = configured(overrides)
        start(Topology.of_world(environment()[1], config.parallel.tensor, 1, config.parallel.expert), 0)
        try:
            found[name] = measure_one(config)
        finally:
            stop()
    return found


def measure_one(config: Config) -> Measured:
    cpu_attention.takes = lambda _: False  # the planner plans for torch's attention, which keeps other things
    module = real_model(config)
    weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    recorder = Recorder(CPU, config.engine.precision, group_kinds(), set())
    with recorder:
        with kept_storages(weights) as kept:
            loss = loss_of(config, module)
        loss.backward()
    return Measured(sum(kept.values()), dict(recorder.sent))


def recorded(name: str) -> list[Work]:
    """Forward and backward of every piece of the model, by the planner."""
    return [work for cost in costs(name) for work in (cost.forward, cost.backward)]


@cache
def costs(name: str) -> list[Cost]:
    config = configured((ONE | TWO)[name])
    pieces, decoder = Pieces(config, CPU), config.model.decoder
    return [
        pieces.piece(name, config.parallel, config.engine.recompute, config.data.micro_batch).cost
        for name in names_in(Part(layers=decoder.layers), decoder)
    ]


@pytest.fixture(scope="module")
def one() -> dict[str, Measured]:
    return measure(ONE, free_ports(len(ONE)))


@pytest.fixture(scope="module")
def two() -> list[dict[str, Measured]]:
    return launch(measure, 2, TWO, free_ports(len(TWO)))


@pytest.mark.parametrize("name", ONE)
def test_kept_activations_are_those_of_a_real_run(one: dict[str, Measured], name: str) -> None:
    assert sum(cost.kept for cost in costs(name)) == pytest.approx(one[name].kept, rel=0.05)


@pytest.mark.parametrize("name", TWO)
def test_kept_activations_and_messages_are_those_of_two_real_ranks(two: list[dict[str, Measured]], name: str) -> None:
    # ranks get unequal numbers of tokens for their experts: the planner's are the mean
    kept = sum(rank[name].kept for rank in two) / 2
    assert sum(cost.kept for cost in costs(name)) == pytest.approx(kept, rel=0.05)
    for kind in ("tensor", "expert"):
        sent = sum(rank[name].sent.get(kind, 0.0) for rank in two) / 2
        assert sum(work.sent.get(kind, 0.0) for work in recorded(name)) == pytest.approx(sent, rel=0.05)


def grouped_flops(
    first: tuple[int, ...], second: tuple[int, ...], *_: object, out_shape: tuple[int, ...], **__: object
) -> int:
    """torch's counter knows no grouped products: every row meets one expert's matrix, in whichever operand those are."""
    rows = first if len(first) == 2 and len(second) == 3 else second
    return 2 * math.prod(first if len(out_shape) == 3 or rows is first else second) * out_shape[-1]


@pytest.mark.parametrize("name", ["encoder", "pretrain", "full"])
def test_flops_are_those_that_torch_counts_in_a_real_run(name: str, monkeypatch) -> None:
    config = configured(ONE[name])
    start(Topology.of_world(1), 0)
    monkeypatch.setattr(cpu_attention, "takes", lambda _: False)
    try:
        module = real_model(config)
        counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: grouped_flops})
        with counter, sdpa_kernel(SDPBackend.MATH):  # the counter does not know the CPU's own attention kernel
            loss_of(config, module).backward()
    finally:
        stop()
    assert sum(work.flops for work in recorded(name)) == pytest.approx(counter.get_total_flops(), rel=0.02)
