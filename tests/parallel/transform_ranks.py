"""What ranks do in test_transform.py. Nothing heavy is imported at the top."""

import os
from typing import Any, ClassVar

WAYS = ("LoRA", "DoRA", "DoRA, weights formed", "DoRA, positions shared out")
KINDS = ("whole", "column", "row", "experts", "convolution", "embedding")


def learn_every_way() -> dict[str, Any]:
    """Losses and final factors, whole, of 30 steps on the stack of layers in each of WAYS; on one process also what a
    chain does to each kind of layer.
    """
    from parallel.topology import Topology, start, stop

    world = int(os.environ["WORLD_SIZE"])
    start(Topology(tensor=world), seed=0, timeout_seconds=60)
    found: dict[str, Any] = {way: _learned(way, world) for way in WAYS}
    if world == 1:
        found |= {"doubled": _doubled(), "calls without a chain": _calls_without_a_chain()}
    stop()
    return found


def _learned(way: str, world: int) -> dict[str, Any]:
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state

    from parallel.layers import WeightTransform
    from parallel.snapshot import cut, describe
    from tests.train.transform.layers import Stack, config, factorised, sites_of, task

    class Nothing(WeightTransform):
        axes: ClassVar = {}

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * 1.0

    work, shared_out = task(), way.endswith("shared out") and world > 1
    stack = factorised(
        Stack(config(world, sequence=shared_out), whole=not way.endswith("shared out")), way != "LoRA"
    )
    if way.endswith("formed"):
        for site in sites_of(stack).values():
            site.attach("mask", Nothing())
    group, rank = (
        parallel_state.get_tensor_model_parallel_group(),
        parallel_state.get_tensor_model_parallel_rank(),
    )
    x, target = (value.chunk(world)[rank] if shared_out else value for value in (work.x, work.target))
    optimizer = torch.optim.AdamW([p for p in stack.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (stack(x) - target).square().sum() / work.target.numel()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        if shared_out:
            dist.all_reduce(total, group=group)
        losses.append(total.item())
    return {
        "losses": losses,
        "factors": _whole([piece for entry in describe(stack) for piece in cut(entry, entry.data, "")]),
    }


def _whole(pieces: list[Any]) -> dict[str, Any]:
    """Every tensor with the parts that other ranks hold; parts that several hold must be equal, bit for bit."""
    import torch
    import torch.distributed as dist

    mine = [
        (piece.key, piece.shape, piece.offset, piece.view().clone())
        for piece in pieces
        if ".low_rank." in piece.key
    ]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    found: dict[str, torch.Tensor] = {}
    for key, shape, offset, values in (part for parts_of_rank in parts for part in parts_of_rank):
        place = tuple(slice(start, start + size) for start, size in zip(offset, values.shape))
        there = found.setdefault(key, torch.full(shape, torch.nan, dtype=values.dtype))[place]
        assert there.isnan().all() or torch.equal(there, values), f"{key} differs between ranks"
        there.copy_(values)
    assert not any(value.isnan().any() for value in found.values())
    return {key: value.numpy() for key, value in found.items()}


def _doubled() -> dict[str, float]:
    """How much more each kind of layer gives when its chain doubles its weight."""
    import torch
    from megatron.core.process_groups_config import ProcessGroupCollection

    from parallel.layers import (
        ColumnLinear,
        Convolution,
        Embedding,
        Experts,
        Linear,
        RowLinear,
        WeightTransform,
    )
    from tests.train.transform.layers import EXACT, HIDDEN, WIDTH, config, drawn

    class Twice(WeightTransform):
        axes: ClassVar = {}

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * 2

    shape = config()
    shape.moe_ffn_hidden_size = HIDDEN
    experts = Experts(2, shape, pg_collection=ProcessGroupCollection.use_mpu_process_groups())
    table = Embedding(8, WIDTH, init_method=shape.init_method, config=shape)
    rows, counts = drawn("rows", 5, WIDTH), torch.tensor([2, 3])
    layers = {
        "whole": (Linear(shape, WIDTH, HIDDEN, bias=False), (rows[None],)),
        "column": (ColumnLinear(shape, WIDTH, HIDDEN, bias=False), (rows[None],)),
        "row": (RowLinear(shape, WIDTH, HIDDEN, bias=False), (rows[None],)),
        "experts": (experts, (rows, counts, drawn("routing", 5))),
        "convolution": (Convolution(3, 4, 3, bias=False, dtype=EXACT), (drawn("page", 1, 3, 6, 6),)),
        "embedding": (table, (torch.tensor([[1, 7]]),)),
    }
    found = {}
    for name, (layer, inputs) in layers.items():
        for parameter in layer.parameters():
            parameter.data = drawn(name, *parameter.shape)
        before = layer(*inputs)
        list(layer.sites())[-1].attach("mask", Twice())  # of the experts' two, the one behind the activation
        after = layer(*inputs)
        before, after = (out[0] if isinstance(out, tuple) else out for out in (before, after))
        found[name] = float((after / before).mean())
    return found


def _calls_without_a_chain() -> list[str]:
    from parallel.layers import ColumnLinear
    from tests.train.transform.layers import HIDDEN, WIDTH, config, drawn

    calls: list[str] = []
    layer = ColumnLinear(config(), WIDTH, HIDDEN)
    base = next(kind for kind in type(layer).__mro__ if kind.__name__ == "ColumnParallelLinear")
    before = base._forward_impl

    def multiply(self: Any, *arguments: Any, **options: Any) -> Any:
        assert options["weight"] is self.weight and options["bias"] is self.bias
        calls.append("multiply")
        return before(self, *arguments, **options)

    base._forward_impl = multiply
    try:
        layer(drawn("rows", 1, 5, WIDTH))
    finally:
        base._forward_impl = before
    return calls
