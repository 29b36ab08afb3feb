"""Lets megatron-core run on CPU tensors and gloo. Does nothing where CUDA is available.

megatron-core 0.16 names the accelerator in four ways, and each gets the CPU as its answer: calls of
`torch.cuda` (replaced by functions that return the CPU's answer or do nothing), `device="cuda"` literals (the
few modules that hold one see a `torch` whose factories read "cuda" as "cpu"), `Tensor.cuda()` (the identity),
and the CUDA random generator (the CPU's). `torch.cuda.is_available()` keeps saying False, and no parallel
logic of megatron-core is replaced.

There is no `TorchFunctionMode`: it would cost a Python call on every operation of the model. What is not
covered is megatron-core's own optimizers, which compare type tags: here DeepSpeed owns the optimizer.
"""

import contextlib
import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch

# The modules that write device="cuda" literally and that the layers, schedules or checkpoints run through
# (0.16.1).
_MODULES_NAMING_CUDA = (
    "pipeline_parallel.schedules",
    "transformer.utils",
    "transformer.moe.moe_utils",
    "dist_checkpointing.mapping",
    "dist_checkpointing.exchange_utils",
    "dist_checkpointing.strategies.state_dict_saver",
)
_FACTORIES = (
    "arange",
    "empty",
    "empty_like",
    "full",
    "ones",
    "ones_like",
    "rand",
    "randn",
    "tensor",
    "zeros",
    "zeros_like",
)

_installed = False


def install() -> None:
    """Puts the answers in place, once a process and before megatron-core builds anything; without effect
    where CUDA is available.
    """
    global _installed
    if _installed or torch.cuda.is_available():
        return
    _installed = True
    _answer_torch_cuda()
    _answer_literals()
    _answer_random()
    _answer_token_dispatcher()


class _Null:
    """A stream or an event: CPU work is synchronous, so there is nothing to order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        return None

    wait_stream = wait_event = record = synchronize = wait = _nothing

    def record_event(self, event: "_Null | None" = None) -> "_Null":
        """The event asked for: callers wait on it."""
        return event or _Null()


class _TorchOnCpu:
    """The `torch` module, but its factories take `device="cuda"` for the CPU."""

    def __init__(self) -> None:
        for name in _FACTORIES:
            setattr(self, name, _on_cpu(getattr(torch, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def call(*args: Any, **kwargs: Any) -> torch.Tensor:
        if kwargs.get("device") is not None and str(kwargs["device"]).startswith("cuda"):
            kwargs["device"] = "cpu"
        return factory(*args, **kwargs)

    return call


def _returning(value: Any) -> Callable[..., Any]:
    """A new function each time: torch._dynamo refuses one function object under two names."""
    return lambda *args, **kwargs: value


def _answer_torch_cuda() -> None:
    cuda: Any = torch.cuda
    stream = _Null()
    cuda.current_device, cuda.device_count = _returning("cpu"), _returning(1)
    cuda.synchronize, cuda.set_device = _returning(None), _returning(None)
    cuda.Stream, cuda.Event = _Null, _Null
    cuda.current_stream, cuda.default_stream = _returning(stream), _returning(stream)
    cuda.stream = _returning(contextlib.nullcontext())
    cuda.nvtx.range_push, cuda.nvtx.range_pop = _returning(None), _returning(None)
    cuda.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    cuda.manual_seed = lambda seed: torch.default_generator.manual_seed(seed)
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]


def _answer_literals() -> None:
    torch_on_cpu = _TorchOnCpu()
    for name in _MODULES_NAMING_CUDA:
        importlib.import_module(f"megatron.core.{name}").torch = torch_on_cpu  # type: ignore[attr-defined]


def _answer_random() -> None:
    from megatron.core.tensor_parallel import random

    random._get_cuda_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    # Its tracker warns when the CPU generator moves inside a fork; here that generator is the tracked one.
    logging.getLogger(random.__name__).addFilter(
        lambda record: "CPU RNG state changed" not in record.getMessage()
    )


def _answer_token_dispatcher() -> None:
    """`all_to_all_single` wants split sizes that are no tensors; megatron-core converts them only when
    they are on a GPU.
    """
    from megatron.core.transformer.moe import token_dispatcher

    def as_host_sizes(tensor: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
        return tensor.numpy() if as_numpy and torch.is_tensor(tensor) else tensor

    token_dispatcher.maybe_move_tensor_to_cpu = as_host_sizes
