"""Who reduces what: megatron-core's groups as DeepSpeed sees them, and what it takes experts for."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel.options import EngineOptions

_MARKER = "deepspeed_expert_marker"
_EVERYWHERE = "every_tensor_rank_holds_all"  # on experts that stage 3 takes for ordinary parameters
_FROZEN = "frozen_expert"  # on those that it must leave alone
_NEVER_SENT = "ds_optim_param"  # DeepSpeed's own mark of weights that differ between data ranks


class ModelParallelUnit:
    """megatron-core's groups under the names DeepSpeed asks for."""

    def __getattr__(self, name: str) -> Any:
        if "sequence" in name:  # DeepSpeed probes for its own sequence parallelism, which is another thing
            raise AttributeError(name)
        return getattr(parallel_state, name)

    def get_model_parallel_world_size(self) -> int:
        """Ranks that together hold one copy of the model: tensor x pipeline."""
        return parallel_state.get_model_parallel_group().size()

    def get_model_parallel_rank(self) -> int:
        """The tensor rank, although the group is tensor x pipeline: DeepSpeed asks to know who counts a
        parameter that all tensor ranks hold in the gradient norm."""
        return parallel_state.get_tensor_model_parallel_rank()

    def get_data_parallel_group_ranks(self) -> list[int]:
        """Global ranks of this rank's data parallel group."""
        return dist.get_process_group_ranks(parallel_state.get_data_parallel_group())


def register_experts(module: torch.nn.Module, options: EngineOptions) -> None:
    """Decides, in this one place, what DeepSpeed takes the parameters marked `allreduce = False` for, frozen ones too.

    They are reduced over megatron-core's expert-data-parallel group. Where that is the data-parallel group (one
    expert group, no tensor parallelism) they are ordinary parameters, and the mark is taken off: every ZeRO stage
    works on them. Elsewhere they get DeepSpeed's group name, and DeepSpeed gets megatron-core's groups under it.

    Stage 3 refuses them. There (one expert group, so that each tensor rank holds all experts and sees its part of the
    sequence) they become ordinary parameters marked `sequence_parallel`, whose gradients
    `prepare.sum_over_sequence_parts` adds up over the tensor ranks.

    Frozen ones need no group; but data ranks hold other experts, which DeepSpeed must not make equal when it begins.
    """
    for param in module.parameters():
        if not param.requires_grad and getattr(param, "allreduce", True) is False:
            _mark(param, **{"allreduce": True, _NEVER_SENT: True, _FROZEN: True})
    experts = [param for param in module.parameters() if getattr(param, "allreduce", True) is False]
    if not experts:
        return
    expert_data = parallel_state.get_expert_data_parallel_group()
    data_ranks = dist.get_process_group_ranks(parallel_state.get_data_parallel_group())
    if dist.get_process_group_ranks(expert_data) == data_ranks:
        for param in experts:
            param.allreduce = True  # type: ignore[attr-defined]
        return
    if options.zero == 3:
        for param in experts:
            _mark(param, allreduce=True, tensor_model_parallel=False, sequence_parallel=True)
            setattr(param, _EVERYWHERE, True)
        return
    from deepspeed.utils import groups

    expert = parallel_state.get_expert_model_parallel_group()
    name = f"ep_size_{expert.size()}"  # DeepSpeed reads the size back from the name
    ranks = (dist.get_process_group_ranks(expert), dist.get_process_group_ranks(expert_data))
    for table, value in zip(_expert_tables(groups), (expert, ranks[0], expert_data, ranks[1])):
        table[name] = value
    for param in experts:
        param.group_name = name  # type: ignore[attr-defined]
    if any(param.requires_grad for param in experts):
        module.add_module(_MARKER, _expert_marker(expert.size()))


def unregister_experts(module: torch.nn.Module) -> None:
    """The reverse of `register_experts`, so that an engine of another stage may take the module."""
    if hasattr(module, _MARKER):
        delattr(module, _MARKER)
    for param in module.parameters():
        if hasattr(param, "group_name"):
            del param.group_name
        if hasattr(param, _FROZEN):
            _mark(param, allreduce=False)
            for name in (_NEVER_SENT, _FROZEN):
                delattr(param, name)
        if hasattr(param, _EVERYWHERE):
            _mark(param, allreduce=False, tensor_model_parallel=True, sequence_parallel=False)
            delattr(param, _EVERYWHERE)


def counts_here(param: torch.nn.Parameter) -> bool:
    """Whether this rank's part of a trained parameter counts in sums over all ranks, as DeepSpeed counts it in the gradient norm:
    of what all tensor ranks hold the first one's does, and of a matrix that two stages hold one copy's. Data ranks hold
    different parts anyway.
    """
    if getattr(param, "ds_pipe_replicated", False):
        return False
    own = getattr(param, "allreduce", True) is False or getattr(param, "tensor_model_parallel", False)
    return own or parallel_state.get_tensor_model_parallel_rank() == 0


def parameter_groups(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`groups` with their experts, if any are registered, split off into groups of their own, as DeepSpeed wants."""
    if not any(hasattr(param, "group_name") for group in groups for param in group["params"]):
        return list(groups)
    from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

    # Without a largest size: how many groups there are must not depend on how much a pipeline stage holds.
    split = split_params_into_different_moe_groups_for_optimizer(tuple(groups), max_group_size=None)  # type: ignore[arg-type]
    return [group for group in split if group["params"]]


def forget() -> None:
    """Drops what DeepSpeed keeps about process groups that are about to be destroyed."""
    from deepspeed.comm import comm
    from deepspeed.utils import groups

    comm.cdb = None
    groups._WORLD_GROUP = None
    groups.mpu = None
    for table in _expert_tables(groups):
        table.clear()


def _mark(param: torch.nn.Parameter, **marks: bool) -> None:
    for name, value in marks.items():
        setattr(param, name, value)


def _expert_tables(groups: ModuleType) -> tuple[dict, dict, dict, dict]:
    return (
        groups._EXPERT_PARALLEL_GROUP,
        groups._EXPERT_PARALLEL_GROUP_RANKS,
        groups._EXPERT_DATA_PARALLEL_GROUP,
        groups._EXPERT_DATA_PARALLEL_GROUP_RANKS,
    )


def _expert_marker(size: int) -> torch.nn.Module:
    """A module without parameters that makes DeepSpeed see a mixture of experts: it looks for its own class."""
    from deepspeed.moe.layer import MoE

    class ExpertMarker(MoE):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.num_experts = size

        def set_deepspeed_parallelism(self, *_: Any, **__: Any) -> None:
            """The groups are megatron-core's and registered already."""

    return ExpertMarker()
