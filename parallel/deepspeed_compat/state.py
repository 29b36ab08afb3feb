"""Weights and optimizer tensors in and out of DeepSpeed's partitions, whatever the stage.

Stages 1 and 2 split fp32 masters and optimizer tensors over the data ranks and keep whole weights in the module; stage 3
splits the weights too: a parameter is empty but for its uses, frozen ones as well.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

from parallel.whole import Segment


def keeps_whole_weights(engine: Any) -> bool:
    """Whether the module's parameters hold their weights between steps: False in stage 3."""
    return engine.zero_optimization_stage() != 3


def partitions_of(engine: Any, optimizer: torch.optim.Optimizer) -> list[list[torch.Tensor]]:
    """This rank's flat fp32 parts of the masters, for each of the optimizer's parameter groups."""
    if keeps_whole_weights(engine):
        return [group["params"] for group in optimizer.param_groups]
    found: list[list[torch.Tensor]] = [[] for _ in optimizer.param_groups]  # stage 3 leaves its groups empty
    for index, flat in enumerate(engine.optimizer.fp32_partitioned_groups_flat):
        found[engine.optimizer.sub_group_to_group_id[index]].append(flat)
    return found


def state_names(optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the fp32 tensors that the optimizer keeps for every weight, or for those of some groups, such as exp_avg."""
    found: dict[str, None] = {}
    for flat, state in optimizer.state.items():
        found |= {name: None for name, value in state.items() if _is_of_every_weight(value, flat)}
    return list(found)


def _is_of_every_weight(value: Any, flat: torch.Tensor) -> bool:
    return torch.is_tensor(value) and value.shape == flat.shape and value.is_floating_point()


def update_count(optimizer: torch.optim.Optimizer) -> float:
    """How many updates the optimizer has counted, for its bias correction; 0 where it counts none."""
    return float(next((state["step"] for state in optimizer.state.values() if "step" in state), 0))


def set_update_count(optimizer: torch.optim.Optimizer, count: float) -> None:
    """The reverse of `update_count`, for every group."""
    for state in optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"].fill_(count)
        elif "step" in state:
            state["step"] = int(count)


def segment(engine: Any, optimizer: torch.optim.Optimizer, param: Any) -> Segment | None:
    """Which stretch of a trained parameter this data rank holds, and where; None where it holds nothing. Stages 1 and 2."""
    mapping = param._hp_mapping
    if mapping is None:
        return None
    (flat,) = optimizer.param_groups[mapping.param_group_index]["params"]
    group = engine.optimizer.real_dp_process_group[mapping.param_group_index]
    low, high = mapping.lp_fragment_address, mapping.hp_fragment_address
    first = group.rank() * flat.numel() + high.start - low.start
    return Segment(flat, high.start, low.start, low.numel, first, group)


def fragment(param: Any, name: str | None) -> tuple[torch.Tensor, int]:
    """This data rank's part of the fp32 master weight (`name` None) or optimizer tensor of a trained parameter.

    (values [n], place of the first among the parameter's elements in row-major order). The values are DeepSpeed's own
    memory, on the host with offload: what is put there counts, and `refresh` must follow. The data ranks' parts make
    the whole, without overlap; a rank may have none of it. Empty too where the optimizer keeps no such tensor of it.
    """
    nothing = torch.empty(0), 0
    if _is_partitioned(param):
        size = param.ds_tensor.ds_numel
        start = size * dist.get_rank(param.ds_process_group)
        try:
            flat, _ = param._z3_optimizer._get_fp32_opt_state_partition(
                param, release_swap_buffers=False, optim_state_key=name
            )
        except KeyError:
            return nothing
        own = flat[: max(0, min(size, param.ds_numel - start))]
        return (own, start) if own.is_floating_point() else nothing
    mapping = param._hp_mapping
    if mapping is None:
        return nothing
    found = mapping.hp_fragment if name is None else mapping.optim_fragment.get(name)
    if found is None or not found.is_floating_point():
        return nothing
    return found, mapping.lp_fragment_address.start


@torch.no_grad()
def set_master(param: torch.nn.Parameter, value: torch.Tensor) -> None:
    """Makes a whole fp32 tensor the master of a parameter; each data rank keeps its part."""
    flat, start = fragment(param, None)
    flat.copy_(value.flatten()[start : start + flat.numel()])


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a parameter that is not trained, or of a buffer. All data ranks must call it."""
    if not _is_partitioned(tensor):
        return tensor.detach()
    from deepspeed import zero
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    if tensor.ds_status == ZeroParamStatus.INFLIGHT:  # type: ignore[attr-defined]
        tensor._z3_optimizer._partition_all_parameters()  # type: ignore[attr-defined]  # fetched ahead, never used
    with zero.GatheredParameters([tensor]):
        return tensor.detach().clone()


@torch.no_grad()
def put_whole(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Puts values where `whole` takes them from. In stage 3 `refresh` must follow."""
    if _is_partitioned(tensor):
        tensor.ds_tensor.data.copy_(_part(tensor, value))  # type: ignore[attr-defined]
    else:
        tensor.copy_(value)


def refresh(engine: Any) -> None:
    """Makes the module's weights equal to the masters again, on all data ranks."""
    if keeps_whole_weights(engine):
        engine.optimizer.update_lp_params()
        return
    engine.optimizer._partition_all_parameters()  # whole copies of small weights are stale now
    for index in range(len(engine.optimizer.fp32_partitioned_groups_flat)):
        engine.optimizer._reassign_or_swap_out_partitioned_parameters(index)


def _is_partitioned(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "ds_tensor")


def _part(param: Any, value: torch.Tensor) -> torch.Tensor:
    """This rank's part of a whole value, the last one filled up with zeros."""
    size, group = param.ds_tensor.ds_numel, param.ds_process_group
    flat = F.pad(value.flatten(), (0, size * group.size() - value.numel()))
    return flat.narrow(0, size * dist.get_rank(group), size)
