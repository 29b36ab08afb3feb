"""Rules on whole matrices of the small model in fp64, split over tensor, expert and data ranks, with the same gradients."""

import zlib
from collections.abc import Iterator
from typing import Any

STEPS = 3
RULES = ("muon", "adafactor", "galore")
LAYOUTS = {
    "tensor 2": {"tensor": 2},
    "tensor 2 x expert 2": {"tensor": 2, "expert": 2},
    "data 2": {},
    "expert 2": {"expert": 2},
}


def play(ports: list[int]) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """(layout, rule) -> pieces of the weights after some steps, on two ranks."""
    import os

    from parallel.topology import Topology, start, stop
    from train.config import ParallelConfig

    found = {}
    for (name, sizes), port in zip(LAYOUTS.items(), ports):
        os.environ["MASTER_PORT"] = str(port)
        start(Topology(**sizes, data=2 // sizes.get("tensor", 1)), seed=0)
        for rule in RULES:
            found[name, rule] = list(stepped(rule, ParallelConfig(**sizes)))
        stop()
    return found


def stepped(rule: str, sizes: Any) -> Iterator[tuple[Any, ...]]:
    """(key, shape of the whole, place in it, values) of every weight that this rank holds some of, after the steps."""
    import numpy as np
    import torch

    from parallel.fragments import fragment_pieces
    from parallel.snapshot import cut
    from parallel.whole import Wholes
    from tests.train.model.small_model import small_model, without_zeros
    from tests.train.optimizer import oracles
    from train.model.optical import build
    from train.optimizer import optimizer_of, parameter_groups

    module = without_zeros(build(small_model(), 100, sizes, seed=1).double())
    groups = parameter_groups(module, oracles.DECAY, hidden_apart=True)
    groups = [group for group in groups if rule == "adafactor" or group["name"] == "matrices"]
    flats, wholes = [], []
    for group in groups:
        for flat, own in flattened(module, group["params"]):
            flats.append({**group, "params": [flat]})
            wholes += own
    optimizer = optimizer_of(oracles.SETTINGS[rule])(flats)
    optimizer.create_states()
    optimizer.bind(Wholes(iter(wholes)))
    for step in range(STEPS):
        for whole in wholes:
            segment = whole.segment
            gradient = torch.zeros(whole.shape, dtype=torch.float64)
            for piece in cut(whole._entry, gradient, ""):
                piece.view().copy_(gradient_of(piece.key, piece.shape, step)[tuple(
                    slice(first, first + size) for first, size in zip(piece.offset, piece.view().shape)
                )])  # fmt: skip
            segment.flat.grad = torch.zeros_like(segment.flat) if segment.flat.grad is None else segment.flat.grad
            part = gradient.flatten()[segment.start : segment.start + segment.size]
            segment.flat.grad[segment.place : segment.place + segment.size] = part
        optimizer.step()
    for whole in wholes:
        segment = whole.segment
        values = segment.flat.detach()[segment.place : segment.place + segment.size]
        for piece in fragment_pieces(whole._entry, values, segment.start, ""):
            place = tuple(slice(first, first + size) for first, size in zip(piece.offset, piece.view().shape))
            yield piece.key, piece.shape, place, np.array(piece.view())


def flattened(module: Any, params: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """(this rank's flat part, what it holds) as ZeRO lays them out: experts with a group of their own apart from the rest."""
    import dataclasses

    import torch
    from megatron.core import parallel_state

    from parallel.snapshot import describe
    from parallel.whole import Segment, Whole

    entries = {entry.data: entry for entry in describe(module)}
    for experts in (False, True):
        own = [param for param in params if (getattr(param, "allreduce", True) is False) == experts]
        if not own:
            continue
        group = (
            parallel_state.get_expert_data_parallel_group() if experts else parallel_state.get_data_parallel_group()
        )
        values = torch.cat([param.detach().flatten() for param in own])
        size = -(-len(values) // group.size())
        values = torch.nn.functional.pad(values, (0, size * group.size() - len(values)))
        flat = torch.nn.Parameter(values[size * group.rank() : size * (group.rank() + 1)].clone())
        wholes, first = [], 0
        for param in own:
            start = max(0, size * group.rank() - first)
            stop = min(param.numel(), size * (group.rank() + 1) - first)
            if start < stop:
                place = first + start - size * group.rank()
                entry = dataclasses.replace(entries[param], data=torch.empty_like(param, device="meta"))
                wholes.append(Whole(entry, Segment(flat, place, start, stop - start, first, group)))
            first += param.numel()
        yield flat, wholes


def gradient_of(key: str, shape: tuple[int, ...], step: int) -> Any:
    """Of the whole tensor: the same in every layout."""
    import torch

    generator = torch.Generator().manual_seed(zlib.crc32(f"{key} {step}".encode()))
    return torch.randn(shape, generator=generator, dtype=torch.float64)
