"""What is done to a module before an engine takes it, and to its gradients before a step: what megatron-core's schedules
and DeepSpeed lack."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel import deepspeed_compat
from parallel.errors import ParallelError
from parallel.options import EngineOptions
from parallel.topology import Topology

_PLACEHOLDERS = "engine_placeholders"


def trainable_names(
    module: torch.nn.Module, groups: Sequence[dict[str, Any]]
) -> dict[torch.nn.Parameter, str]:
    """Every trainable parameter here and its name; all of them must be in `groups`."""
    names = {param: name for name, param in module.named_parameters() if param.requires_grad}
    grouped = {param for group in groups for param in group["params"]}
    for param, name in names.items():
        if param not in grouped:
            raise ParallelError(f"{name} is trainable but in no parameter group: it would never be updated.")
    return names


class Placeholders(torch.nn.Module):
    """Parameters that change nothing, one for each parameter group that has none on this rank.

    DeepSpeed's collectives run once for each group, over all ranks: with a group less on one stage of a pipeline, the
    stages would wait for each other or add up different things.
    """

    def __init__(self, count: int, experts: int, place: torch.device) -> None:
        """count: of them all; the last `experts` stand for experts."""
        super().__init__()
        self.params = torch.nn.ParameterList(torch.zeros(1, device=place) for _ in range(count))
        for param in list(self.params)[count - experts :]:
            param.allreduce = False

    def zero_gradients(self) -> None:
        """Gives each a gradient of zero, by a backward: DeepSpeed's hooks must see it. Before every step."""
        for param in self.params:
            (param.sum() * 0).backward()

    def sharded_state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing: a checkpoint knows no layout."""
        return {}


def same_groups(
    module: torch.nn.Module, groups: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], Placeholders]:
    """The trainable part of `groups`, made alike on all ranks, with the placeholders that this took.

    Groups are told apart by `name`, and in each of them experts (`allreduce` False) from the rest; all ranks call it.
    The placeholders are registered in `module` until `remove_placeholders`. Call it before experts are registered.
    Raises ParallelError when no rank trains anything, or a name is given twice.
    """
    here: dict[str, dict[str, Any]] = {}
    for group in groups:
        params = [param for param in group["params"] if param.requires_grad]
        if params and group["name"] in here:
            raise ParallelError(f"Two parameter groups are named {group['name']!r}: give each its own name.")
        if params:
            here[group["name"]] = {**group, "params": params}
    kinds: dict[tuple[str, bool], dict[str, Any]] = {
        (name, _is_expert(param)): {**group, "params": []}
        for name, group in here.items()
        for param in group["params"]
    }
    found: list[dict[tuple[str, bool], dict[str, Any]]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, kinds)
    everywhere = {kind: settings for kinds in found for kind, settings in kinds.items()}
    if not everywhere:
        raise ParallelError("Nothing to train: every parameter is frozen. Look at stage.frozen=[...].")
    missing = sorted((kind for kind in everywhere if kind not in kinds), key=lambda kind: kind[1])
    place = next(module.parameters()).device
    placeholders = Placeholders(len(missing), sum(expert for _, expert in missing), place)
    if missing:
        module.add_module(_PLACEHOLDERS, placeholders)
    alike = {name: {**settings, "params": []} for (name, _), settings in everywhere.items()}
    for name, group in here.items():
        alike[name]["params"] += group["params"]
    for (name, _), param in zip(missing, placeholders.params):
        alike[name]["params"].append(param)
    return list(alike.values()), placeholders


def remove_placeholders(module: torch.nn.Module) -> None:
    """Takes off what `same_groups` put into the module."""
    if hasattr(module, _PLACEHOLDERS):
        delattr(module, _PLACEHOLDERS)


def _is_expert(param: torch.nn.Parameter) -> bool:
    return getattr(param, "allreduce", True) is False


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


def watch_gradients(params: Iterable[torch.nn.Parameter], reached: set[torch.nn.Parameter]) -> list[Any]:
    """Hooks that note in `reached` each parameter that a backward gave a gradient, at every ZeRO stage. A function that gives
    None in its place, as megatron-core's product with a frozen weight does to its bias, has given none.
    """

    def noting(param: torch.nn.Parameter) -> Callable[[torch.Tensor | None], None]:
        def note(gradient: torch.Tensor | None) -> None:
            if gradient is not None:
                reached.add(param)

        return note

    return [param.register_hook(noting(param)) for param in params]


def tied_across_stages(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The matrix that embeds tokens and gives their logits, where two stages of a pipeline hold a copy of it.

    The last stage's copy is marked as such, so that DeepSpeed counts it once in the gradient norm. Empty elsewhere, and
    where it is frozen.
    """
    if parallel_state.get_pipeline_model_parallel_world_size() == 1:
        return []
    last = parallel_state.is_pipeline_last_stage(ignore_virtual=True)
    tied = [
        param
        for param in module.parameters()
        if param.requires_grad and getattr(param, "shared_embedding", False)
    ]
    for param in tied:
        param.ds_pipe_replicated = last  # type: ignore[attr-defined]
    return tied


def sum_tied_gradients(tied: Iterable[torch.nn.Parameter]) -> None:
    """Adds up, in each copy of what `tied_across_stages` found, the gradients of all copies. Once before every step."""
    for param in tied:
        gradient = deepspeed_compat.accumulated_gradient(param)
        dist.all_reduce(gradient, group=parallel_state.get_embedding_group())
