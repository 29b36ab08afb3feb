"""DeepSpeed as the engine uses it: every private DeepSpeed name that Microfiche touches is in this file.

`PRIVATE` lists them and a test checks that each exists, so that an upgrade of DeepSpeed fails there and not in a run.
What is worked around here, each measured:

* Its ZeRO optimizers link optimizer states to parameters at the first step, group by group, so that a checkpoint
  written or read before it fails (`prime`).
* It takes `param.allreduce = False`, which megatron-style experts carry, for its own mixture of experts and then wants
  its own expert groups (`register_experts`).
* It compiles a shared-memory all-reduce with ninja on first use on a CPU: a minute for nothing here (`load`).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel.options import EngineOptions

# module, then attribute path; classes stand for what their instances must offer
PRIVATE = (
    ("deepspeed.comm.comm", "cdb"),
    ("deepspeed.ops", "__compatible_ops__"),
    ("deepspeed.utils", "logger"),
    ("deepspeed.utils.groups", "_EXPERT_PARALLEL_GROUP"),
    ("deepspeed.utils.groups", "_EXPERT_PARALLEL_GROUP_RANKS"),
    ("deepspeed.utils.groups", "_EXPERT_DATA_PARALLEL_GROUP"),
    ("deepspeed.utils.groups", "_EXPERT_DATA_PARALLEL_GROUP_RANKS"),
    ("deepspeed.utils.groups", "_WORLD_GROUP"),
    ("deepspeed.utils.groups", "mpu"),
    ("deepspeed.moe.layer", "MoE"),
    ("deepspeed.moe.utils", "split_params_into_different_moe_groups_for_optimizer"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine.get_global_grad_norm"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine.destroy"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine._backward_prologue"),
    ("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer.clear_backward_seen_flag"),
    ("deepspeed.runtime.bf16_optimizer", "BF16_Optimizer._lazy_init_hp_params_optimizer_state"),
    ("deepspeed.runtime.bf16_optimizer", "see_memory_usage"),
    ("deepspeed.runtime.bf16_optimizer", "BF16_Optimizer.update_lp_params"),
    ("deepspeed.runtime.bf16_optimizer", "BF16_Optimizer.zero_grad"),
    ("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer._lazy_init_hp_params_optimizer_state"),
    ("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer.update_lp_params"),
    ("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer.zero_grad"),
    (
        "deepspeed.runtime.zero.stage_1_and_2",
        "DeepSpeedZeroOptimizer.finalize_gradient_accumulation_boundary",
    ),
    ("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer._release_preflattened_grad_buffers"),
)


def load() -> ModuleType:
    """DeepSpeed, imported, silent, and without the kernel it would compile on a machine without CUDA."""
    import deepspeed
    from deepspeed.runtime import bf16_optimizer

    bf16_optimizer.see_memory_usage = _say_nothing
    deepspeed.utils.logger.setLevel(logging.ERROR)
    if not torch.cuda.is_available() and hasattr(deepspeed.ops, "__compatible_ops__"):
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _say_nothing(*_: Any, **__: Any) -> None:
    """In place of a report that the bf16 optimizer prints, after a garbage collection, for every parameter group."""


def forget() -> None:
    """Drops what DeepSpeed keeps about process groups that are about to be destroyed."""
    from deepspeed.comm import comm
    from deepspeed.utils import groups

    comm.cdb = None
    groups._WORLD_GROUP = None
    groups.mpu = None
    for table in _expert_tables(groups):
        table.clear()


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


def configuration(options: EngineOptions, largest: int, elements: int, own_groups: bool) -> dict[str, Any]:
    """The whole DeepSpeed configuration. `largest`, `elements`: of the largest parameter and of all, in numbers.

    own_groups: whether experts are reduced over groups of their own.

    The batch size is a formality: the engine's own normalizers scale the loss, and megatron-core's schedule divides
    by the micro-batches. Buckets hold at least one parameter, and no more than there is.
    """
    bucket = max(largest, min(elements, 2**27))
    bucket += bucket % 2  # DeepSpeed wants an even size
    chosen: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # engine.step() is the boundary, backward is the schedule's
        "gradient_clipping": options.clip,
        "zero_optimization": {
            "stage": options.zero,
            # Off saves a copy and a hook a parameter, but then every gradient is reduced over the data parallel group:
            # wrong for experts with a group of their own.
            "contiguous_gradients": partitions_gradients(options) or own_groups,
            "overlap_comm": False,  # refused by DeepSpeed together with an unmanaged boundary, except in stage 2
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "wall_clock_breakdown": False,
        "steps_per_print": None,
    }
    if options.precision == "bf16":
        chosen["bf16"] = {"enabled": True, "immediate_grad_update": True}
        chosen["data_types"] = {"grad_accum_dtype": "fp32"}  # DeepSpeed's default adds micro-batches in bf16
    return chosen


def register_experts(module: torch.nn.Module) -> None:
    """Decides, in this one place, what DeepSpeed takes the parameters marked `allreduce = False` for.

    They are reduced over megatron-core's expert-data-parallel group. Where that is the data-parallel group (one
    expert group, no tensor parallelism) they are ordinary parameters, and the mark is taken off: every ZeRO stage
    works on them. Elsewhere they get DeepSpeed's group name, and DeepSpeed gets megatron-core's groups under it.
    """
    experts = [param for param in module.parameters() if getattr(param, "allreduce", True) is False]
    if not experts:
        return
    expert_data = parallel_state.get_expert_data_parallel_group()
    data_ranks = dist.get_process_group_ranks(parallel_state.get_data_parallel_group())
    if dist.get_process_group_ranks(expert_data) == data_ranks:
        for param in experts:
            param.allreduce = True  # type: ignore[attr-defined]
        return
    from deepspeed.utils import groups

    expert = parallel_state.get_expert_model_parallel_group()
    name = f"ep_size_{expert.size()}"  # DeepSpeed reads the size back from the name
    ranks = (dist.get_process_group_ranks(expert), dist.get_process_group_ranks(expert_data))
    for table, value in zip(_expert_tables(groups), (expert, ranks[0], expert_data, ranks[1])):
        table[name] = value
    for param in experts:
        param.group_name = name  # type: ignore[attr-defined]
    module.add_module("deepspeed_expert_marker", _expert_marker(expert.size()))


def parameter_groups(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`groups` with their experts, if any are registered, split off into groups of their own, as DeepSpeed wants."""
    if not any(hasattr(param, "group_name") for group in groups for param in group["params"]):
        return list(groups)
    from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

    split = split_params_into_different_moe_groups_for_optimizer(tuple(groups))
    return [group for group in split if group["params"]]


def initialize(module: torch.nn.Module, optimizer: torch.optim.Optimizer, options: EngineOptions) -> Any:
    """A DeepSpeedEngine around `module`, whose optimizer states exist already."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    sizes = [param.numel() for param in params]
    own_groups = any(hasattr(param, "group_name") for param in params)
    engine, *_ = load().initialize(
        model=module,
        optimizer=optimizer,
        config=configuration(options, max(sizes), sum(sizes), own_groups),
        mpu=ModelParallelUnit(),
        dist_init_required=False,
    )
    prime(engine, optimizer)
    return engine


def prime(engine: Any, optimizer: torch.optim.Optimizer) -> None:
    """Makes the optimizer's states exist before its first step, and links them to the parameters.

    A step with zero gradients, learning rate and decay creates them without moving a weight; its count is taken back.
    """
    kept = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = 0.0, 0.0
        for flat in group["params"]:
            flat.grad = torch.zeros_like(flat)
    optimizer.step()
    for group, (rate, decay) in zip(optimizer.param_groups, kept):
        group["lr"], group["weight_decay"] = rate, decay
        for flat in group["params"]:
            flat.grad = None
            if "step" in optimizer.state[flat]:
                optimizer.state[flat]["step"].zero_()
    engine.optimizer._lazy_init_hp_params_optimizer_state()


def state_names(optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the tensors the optimizer keeps for every weight, such as exp_avg; the same on all ranks."""
    flat = optimizer.param_groups[0]["params"][0]
    return [name for name, value in optimizer.state[flat].items() if value.shape == flat.shape]


def update_count(optimizer: torch.optim.Optimizer) -> float:
    """How many updates the optimizer has counted, for its bias correction."""
    flat = optimizer.param_groups[0]["params"][0]
    return float(optimizer.state[flat].get("step", 0))


def set_update_count(optimizer: torch.optim.Optimizer, count: float) -> None:
    """The reverse of `update_count`, for every group."""
    for group in optimizer.param_groups:
        for flat in group["params"]:
            if "step" in optimizer.state[flat]:
                optimizer.state[flat]["step"].fill_(count)


def gather(param: torch.nn.Parameter, name: str | None) -> torch.Tensor:
    """The whole fp32 master weight (`name` None) or optimizer tensor of a parameter. All data ranks must call it."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    return safe_get_full_fp32_param(param) if name is None else safe_get_full_optimizer_state(param, name)


def scatter(param: torch.nn.Parameter, name: str | None, value: torch.Tensor) -> None:
    """Puts a whole fp32 tensor where `gather` takes it from; each rank keeps its part."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    if name is None:
        safe_set_full_fp32_param(param, value)
    else:
        safe_set_full_optimizer_state(param, value, name)


def refresh(engine: Any) -> None:
    """Makes the module's weights equal to the masters again, on all data ranks."""
    engine.optimizer.update_lp_params()


def partitions_gradients(options: EngineOptions) -> bool:
    """Whether gradients are reduced when each backward ends, and not in the step."""
    return options.zero > 1


def reduce_after_backward(engine: Any, loss: torch.Tensor, check: Callable[[], None]) -> None:
    """Lets stage 2 reduce and partition the gradients when the backward of `loss` ends, after `check`.

    DeepSpeed finds the end of a backward itself once it is told of the beginning, from inside of it, and counts the
    gradients of each backward anew.
    """
    engine.optimizer.clear_backward_seen_flag()

    def begin(_: torch.Tensor) -> None:
        torch.autograd.Variable._execution_engine.queue_callback(check)  # type: ignore[attr-defined]
        engine._backward_prologue()

    loss.register_hook(begin)


def discard(engine: Any, options: EngineOptions) -> None:
    """Throws away the gradients of this step, so that the next one starts from none."""
    optimizer = engine.optimizer
    if partitions_gradients(options):  # they are reduced already
        optimizer.finalize_gradient_accumulation_boundary()
        optimizer._release_preflattened_grad_buffers()
        for table in (optimizer.averaged_gradients, optimizer.all_grad_tensors):
            for group in table:
                table[group] = None
    optimizer.zero_grad(set_to_none=True)


def release(engine: Any, params: Iterable[torch.nn.Parameter]) -> None:
    """Takes DeepSpeed's hooks and marks off the module, so that another engine may take it."""
    engine.destroy()
    for param in params:
        for name in ("_hp_mapping", "_hp_grad", "grad_accum"):
            if hasattr(param, name):
                setattr(param, name, None)
        param.grad = None


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
