"""A forward and a backward, recorded operation by operation: FLOPs, time, what is kept, what is sent.

Works on the meta device, where nothing is computed, and on real tensors.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from train.plan.config import DeviceConfig

_aten = torch.ops.aten
# What one rank sends of a message of 1 byte in a group of n, by the ring algorithms; and which argument is that message.
_SENT: dict[str, tuple[Callable[[int], float], int]] = {
    "allreduce_": (lambda n: 2 * (n - 1) / n, 0),
    "_allgather_base_": (lambda n: (n - 1) / n, 0),
    "_reduce_scatter_base_": (lambda n: (n - 1) / n, 1),
    "alltoall_base_": (lambda n: (n - 1) / n, 1),
    "broadcast_": (lambda n: 1.0, 0),
}
_BANDWIDTH_REACHED = 0.8  # of the data sheet's, by operations that only move numbers
_FREE = {_aten._unsafe_view, _aten.empty, _aten.empty_like, _aten.new_empty, _aten.empty_strided, _aten._assert_async}


@dataclass(frozen=True)
class Work:
    """What one pass does. flops: of matrix products and attention; seconds: of its operations, without messages.

    skipped: FLOPs, counted in `flops`, that a causal attention need not do. sent: bytes by kind of message; messages: how
    many of each.
    """

    flops: float = 0.0
    skipped: float = 0.0
    seconds: float = 0.0
    sent: Mapping[str, float] = field(default_factory=dict)
    messages: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.flops + other.flops,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
            added(self.sent, other.sent),
            added(self.messages, other.messages),
        )

    def times(self, factor: float) -> "Work":
        """As much work `factor` times."""
        return Work(
            self.flops * factor,
            self.skipped * factor,
            self.seconds * factor,
            {kind: value * factor for kind, value in self.sent.items()},
            {kind: value * factor for kind, value in self.messages.items()},
        )


@dataclass(frozen=True)
class Cost:
    """A micro-batch in one piece of the model. kept: bytes from forward to backward; passing: bytes at the worst moment
    beyond those."""

    kept: float = 0.0
    passing: float = 0.0
    forward: Work = field(default_factory=Work)
    backward: Work = field(default_factory=Work)

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other."""
        return Cost(
            self.kept + other.kept,
            max(self.passing, other.passing),
            self.forward + other.forward,
            self.backward + other.backward,
        )


def added(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """The sums by name."""
    return {name: first.get(name, 0.0) + second.get(name, 0.0) for name in {**first, **second}}


def trace(
    module: torch.nn.Module,
    forward: Callable[[], list[torch.Tensor]],
    device: DeviceConfig,
    precision: str,
    groups: Mapping[str, str],
) -> Cost:
    """Runs `forward` once, and the backward of the tensors it returns; gradients of parameters are dropped.

    groups: kind of message by the name of the process group.
    """
    weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    recorder = Recorder(device, precision, groups, weights)
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in module.parameters() if p.requires_grad]
    with recorder:
        with kept_storages(weights) as kept:
            outputs = [output for output in forward() if output.requires_grad]
        first = recorder.work()
        if outputs:
            torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
        whole = recorder.work()
    for hook in hooks:
        hook.remove()
    total = float(sum(kept.values()))
    return Cost(total, max(0.0, recorder.peak - total), first, whole + first.times(-1.0))


@contextmanager
def kept_storages(weights: set[int]) -> Iterator[dict[int, int]]:
    """Bytes by storage of what autograd keeps for the backward of the forward inside; `weights` are no activations."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


class Recorder(TorchDispatchMode):
    """Sees every operation, backward included. weights: storages that are no activations."""

    def __init__(self, device: DeviceConfig, precision: str, groups: Mapping[str, str], weights: set[int]) -> None:
        super().__init__()
        self.rate, self.launch = device.rate(precision), 1e-6 * device.launch
        self.bandwidth = 1e9 * device.memory_bandwidth * _BANDWIDTH_REACHED
        self.groups = groups
        self.flops = self.skipped = self.seconds = 0.0
        self.sent: dict[str, float] = {}
        self.messages: dict[str, float] = {}
        self.live = self.peak = 0
        self._sizes: dict[int, int] = dict.fromkeys(weights, 0)

    def work(self) -> Work:
        """What was done so far."""
        return Work(self.flops, self.skipped, self.seconds, dict(self.sent), dict(self.messages))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "c10d":
            self._message(func, args)
            return func(*args, **kwargs)
        out = _run(func, args, kwargs)
        for tensor in _tensors(out):
            self._see(tensor.untyped_storage())
        if not func.is_view and func._overloadpacket not in _FREE:
            self._count(func, args, kwargs, out)
        return out

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        packet, done, needed = func._overloadpacket, 0.0, 0.0
        if packet in flop_registry:
            done = needed = flop_registry[packet](*args, **kwargs, out_val=out)
            if packet.__name__.endswith("attention_backward"):
                needed *= 4 / 5  # of five products one is of the forward, computed again instead of kept
            if "attention" in packet.__name__ and _is_causal(func, args, kwargs):
                self.skipped += needed / 2
                done /= 2
        moved = sum(tensor.nbytes for tensor in _tensors((args, kwargs, out)))
        self.flops += needed
        self.seconds += max(done / self.rate, moved / self.bandwidth, self.launch)

    def _message(self, func: Any, args: Any) -> None:
        name = func._overloadpacket.__name__
        if name not in _SENT:
            return
        group = next(dist.ProcessGroup.unbox(arg) for arg in args if isinstance(arg, torch.ScriptObject))
        if group.size() == 1:
            return
        share, place = _SENT[name]
        size = sum(tensor.nbytes for tensor in _tensors(args[place]))
        kind = self.groups.get(group.group_name, "other")
        self.sent[kind] = self.sent.get(kind, 0.0) + size * share(group.size())
        self.messages[kind] = self.messages.get(kind, 0.0) + 1

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """`func`, where tensors with values (choices, counts) may meet tensors without."""
    tensors = _tensors((args, kwargs))
    if not any(tensor.is_meta for tensor in tensors) or all(tensor.is_meta or not tensor.ndim for tensor in tensors):
        return func(*args, **kwargs)
    if func is _aten.masked_select.default:
        source, mask = args
        return source.new_empty(int(mask.sum()))
    return func(*tree_map(_without_values, args), **tree_map(_without_values, kwargs))


def _without_values(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _is_causal(func: Any, args: Any, kwargs: Any) -> bool:
    names = [argument.name for argument in func._schema.arguments]
    return bool({**dict(zip(names, args)), **kwargs}.get("is_causal", False))


def _drop(parameter: torch.Tensor) -> None:
    parameter.grad = None

