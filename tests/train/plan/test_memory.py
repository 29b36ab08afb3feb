"""The planner's bytes of weights, gradients, optimizer and buffers against all tensors of a real engine."""

import gc
import os
from dataclasses import dataclass

import pytest
import torch
from ranks import free_ports, launch

from conf.compose import compose
from parallel.engine import Engine, EngineOptions
from parallel.layers import cpu_attention
from parallel.topology import environment, start, stop
from train.model.optical import build
from train.objective import NextToken
from train.optimizer import adamw, parameter_groups
from train.plan.config import DeviceConfig, PlanConfig
from train.plan.holdings import freeze
from train.plan.layout import plan, topology_of
from train.plan.pieces import Pieces, batch
from train.plan.trace import Recorder

IMAGE = 258
CPU = DeviceConfig(fused_bias=False)
# Many weights for few activations, then the reverse.
WIDE = ["data.max_length=16", "model.decoder.layers=8", "model.encoder.window_depth=1", "model.encoder.global_depth=1"]
LONG = ["data.max_length=256", "model.decoder.layers=2", "data.micro_batch=4", "data.global_batch=16"]
CASES = {
    f"{precision}_zero{zero}_{'long' if shape is LONG else 'wide'}": [
        f"engine.precision={precision}",
        f"engine.zero={zero}",
        *shape,
    ]
    for precision, zero, shape in (
        ("fp32", 1, LONG),
        ("bf16", 1, WIDE),
        ("fp32", 2, WIDE),
        ("bf16", 2, LONG),
        ("fp32", 3, LONG),
        ("bf16", 3, WIDE),
    )
} | {
    "packed": ["engine.precision=bf16", *LONG, "data.pack=true", "data.pack_pages=3"],
    "experts": ["engine.precision=bf16", "parallel.expert=2", *WIDE],
    "frozen": ["engine.precision=bf16", "stage=pretrain", *LONG],
    "tensor": ["engine.precision=bf16", "parallel.tensor=2", *LONG],
    "pipeline": ["engine.precision=bf16", "parallel.pipeline=2", *LONG, "data.max_length=64"],
    "interleaved": ["engine.precision=bf16", "parallel.pipeline=2", "parallel.virtual=2", *LONG, "data.max_length=64", "model.decoder.layers=4"],
}


@dataclass
class Measured:
    held: int  # between two steps
    peak: int  # within the second step


def configured(overrides: list[str]) -> PlanConfig:
    small = ["model=tiny", "model.glyph_heads=false", "stage=encoder", "stage.objective={patch_glyphs: 0, token_glyphs: 0}"]
    return compose("plan", PlanConfig, ["world_size=2", "data.micro_batch=1", "data.global_batch=4", *small, *overrides])


def tensors_in_memory() -> dict[int, torch.UntypedStorage]:
    """The storage of every tensor in the process. Held, so that no later one gets the address of one that was freed."""
    gc.collect()
    found = {}
    for value in gc.get_objects():
        if torch.is_tensor(value):
            for tensor in (value, value.grad if value.is_leaf else None):
                if tensor is not None and not tensor.is_meta:
                    found[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
    return found


def bytes_of(storages: dict[int, torch.UntypedStorage]) -> int:
    return sum(storage.nbytes() for storage in storages.values())


def measure(cases: dict[str, list[str]], ports: list[int]) -> dict[str, Measured]:
    cpu_attention.takes = lambda _: False  # the planner plans for torch's attention, which keeps other things
    torch.set_num_threads(1)
    found = {}
    for (name, overrides), port in zip(cases.items(), ports):
        os.environ["MASTER_PORT"] = str(port)
        config = configured(overrides)
        start(topology_of(config, environment()[1]), 0)
        try:
            found[name] = measure_one(config)
        finally:
            stop()
    return found


def measure_one(config: PlanConfig) -> Measured:
    before, choice = bytes_of(tensors_in_memory()), config.engine
    module = build(config.model, IMAGE, config.parallel, precision=choice.precision, recompute=choice.recompute)
    freeze(module, config)
    topology = topology_of(config, environment()[1])
    options = EngineOptions(choice.zero, choice.precision, choice.clip)
    engine = Engine(module, parameter_groups(module, 0.05), adamw(config.optim), NextToken(), topology, options)
    values = batch(config, config.data.micro_batch, "cpu")
    values.tokens[:, : len(values.layout) // config.data.micro_batch] = IMAGE
    step = [values] * (config.data.global_batch // config.data.micro_batch // topology.data)
    engine.train_step(step)
    there = tensors_in_memory()
    held = bytes_of(there) - before
    recorder = Recorder(CPU, choice.precision, {}, set(there))
    with recorder:
        engine.train_step(step)
    engine.close()
    return Measured(held, held + recorder.peak)


@pytest.fixture(scope="module")
def measured() -> list[dict[str, Measured]]:
    return launch(measure, 2, CASES, free_ports(len(CASES)))


@pytest.mark.parametrize("name", CASES)
def test_memory_is_that_of_a_real_engine(measured: list[dict[str, Measured]], name: str) -> None:
    config = configured(CASES[name])
    stages = plan(config, 2, Pieces(config, CPU), 1.0).stages
    for rank, real in enumerate(answers[name] for answers in measured):
        memory = stages[rank % len(stages)].memory
        between = memory.weights + memory.optimizer + memory.buffers
        if config.engine.zero == 3 or (config.engine.zero, config.engine.precision) == (1, "bf16"):
            between += memory.gradients  # these are never freed
        assert between == pytest.approx(real.held, rel=0.05)
        assert memory.total == pytest.approx(real.peak, rel=0.05)
