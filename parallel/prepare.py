"""What is done to a module before an engine takes it: names, exact weights, and hooks megatron-core and DeepSpeed lack."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel.errors import ParallelError
from parallel.options import EngineOptions
from parallel.topology import Topology


def trainable_names(
    module: torch.nn.Module, groups: Sequence[dict[str, Any]]
) -> dict[torch.nn.Parameter, str]:
    """Every trainable parameter and its name; all of them must be in `groups`."""
    names = {param: name for name, param in module.named_parameters() if param.requires_grad}
    grouped = {param for group in groups for param in group["params"]}
    for param, name in names.items():
        if param not in grouped:
            raise ParallelError(f"{name} is trainable but in no parameter group: it would never be updated.")
    if not names:
        raise ParallelError("Nothing to train: every parameter is frozen. Look at stage.frozen=[...].")
    return names


def exact_masters(
    params: Mapping[torch.nn.Parameter, str], options: EngineOptions
) -> dict[torch.nn.Parameter, torch.Tensor]:
    """fp32 weights that DeepSpeed would round to bf16 before it makes its masters from them."""
    if options.precision != "bf16":
        return {}
    return {param: param.detach().clone() for param in params if param.dtype == torch.float32}


def leave_gradients_to_the_engine(module: torch.nn.Module) -> None:
    """megatron-core's schedule must neither reduce nor scale gradients: DeepSpeed does."""
    config: Any = module.config
    config.finalize_model_grads_func = config.no_sync_func = config.grad_scale_func = None


def sum_over_sequence_parts(params: Iterable[torch.nn.Parameter], topology: Topology) -> list[Any]:
    """Hooks that complete gradients which each tensor rank has for its part of the sequence only; DeepSpeed never does."""
    if topology.tensor == 1:
        return []
    group = parallel_state.get_tensor_model_parallel_group()

    def summed(gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total, group=group)
        return total

    return [param.register_hook(summed) for param in params if getattr(param, "sequence_parallel", False)]
