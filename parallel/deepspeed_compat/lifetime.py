"""A DeepSpeed engine's beginning and end: its configuration, its optimizer's states, and giving the module back."""

import logging
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

from parallel.deepspeed_compat.groups import ModelParallelUnit, unregister_experts
from parallel.deepspeed_compat.lean import lean
from parallel.deepspeed_compat.state import keeps_whole_weights, partitions_of, set_master
from parallel.deepspeed_compat.step import partitions_gradients
from parallel.optimizer import create_states
from parallel.options import KEPT_WHOLE, EngineOptions

_ON_MODULES = (
    "ds_id", "ds_recompute_parameters", "ds_grads_remaining", "ds_inflight_param_registry", "pre_bwd_fn", "post_bwd_fn",
    "applied_pre_backward_ref_cnt", "_external_params", "_original_parameters",
)  # fmt: skip


def load() -> ModuleType:
    """DeepSpeed, imported, silent, and without the kernel it would compile on a machine without CUDA."""
    import deepspeed
    from deepspeed.runtime import bf16_optimizer

    bf16_optimizer.see_memory_usage = _do_nothing  # it collects garbage, and prints, for every parameter group
    deepspeed.utils.logger.setLevel(logging.ERROR)
    if not torch.cuda.is_available() and hasattr(deepspeed.ops, "__compatible_ops__"):
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _do_nothing(*_: Any, **__: Any) -> None:
    """In place of what DeepSpeed should not do."""


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
            "stage3_prefetch_bucket_size": min(elements, 2**26),
            "stage3_param_persistence_threshold": KEPT_WHOLE,
            # On, it replaces torch.nn.functional.linear for the whole process, for good.
            "memory_efficient_linear": False,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW runs on the host as it is; DeepSpeed's is compiled first
        "wall_clock_breakdown": False,
        "steps_per_print": None,
    }
    if options.offload:
        chosen["zero_optimization"]["offload_optimizer"] = {
            "device": "cpu",
            "pin_memory": torch.cuda.is_available(),
        }
    if options.precision == "bf16":
        chosen["bf16"] = {"enabled": True, "immediate_grad_update": True}
        # DeepSpeed's defaults add up micro-batches, and then data ranks, in bf16.
        chosen["data_types"] = {"grad_accum_dtype": "fp32"}
        chosen["communication_data_type"] = "fp32"
    return chosen


def initialize(
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    options: EngineOptions,
    masters: Mapping[torch.nn.Parameter, torch.Tensor],
) -> Any:
    """A DeepSpeedEngine around `module`, whose optimizer states exist already. masters: values for those that are not to be
    what DeepSpeed makes of the weights."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    sizes = [param.numel() for param in params]
    own_groups = any(hasattr(param, "group_name") for param in params)
    attributes = {param: set(vars(param)) for param in module.parameters()}
    engine, *_ = load().initialize(
        model=module,
        optimizer=optimizer,
        config=configuration(options, max(sizes), sum(sizes), own_groups),
        mpu=ModelParallelUnit(),
        dist_init_required=False,
    )
    engine.attributes_before = attributes  # of each parameter: `release` takes the others off again
    lean(engine, options)
    for param, value in masters.items():
        set_master(param, value)
    prime(engine, optimizer)
    return engine


def prime(engine: Any, optimizer: torch.optim.Optimizer) -> None:
    """Makes the optimizer's states exist before its first step, and links them to the parameters.

    Learning rates, decays and gradients are zero meanwhile, for optimizers that create them in a step.
    """
    kept = [(group["lr"], group["weight_decay"], group["params"]) for group in optimizer.param_groups]
    partitions = partitions_of(engine, optimizer)
    gradients = {
        flat: flat.grad for flats in partitions for flat in flats
    }  # buffers, with an offloaded optimizer
    for group, flats in zip(optimizer.param_groups, partitions):
        group["lr"], group["weight_decay"], group["params"] = 0.0, 0.0, flats
        for flat in flats:
            flat.grad = torch.zeros_like(flat)
    create_states(optimizer)
    for group, (rate, decay, params) in zip(optimizer.param_groups, kept):
        group["lr"], group["weight_decay"], group["params"] = rate, decay, params
    for flat, gradient in gradients.items():
        flat.grad = gradient
    if keeps_whole_weights(engine):
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def release(engine: Any, params: Iterable[torch.nn.Parameter]) -> None:
    """Takes DeepSpeed's hooks and marks off the module, so that another engine may take it, with whole weights.

    `params`: the trained ones. All data ranks call it.
    """
    if not keeps_whole_weights(engine):
        _take_weights_back(engine)
    engine.destroy()
    engine.destroy = _do_nothing  # its finalizer calls it again, whenever that runs, and would cut off the next engine's masters
    engine.module_forward_pre_hook.remove()
    engine.module_forward_post_hook.remove()
    for param in params:
        param.grad = None
    for param, attributes in engine.attributes_before.items():
        for name in set(vars(param)) - attributes:
            delattr(param, name)
    unregister_experts(engine.module)


def _take_weights_back(engine: Any) -> None:
    """Makes every parameter whole on every data rank again, and its module's table of parameters an ordinary one."""
    from deepspeed.runtime.zero import parameter_offload

    engine.optimizer._partition_all_parameters()
    for param in engine.module.parameters():
        param.all_gather()
        param.data = param.data.clone()  # of its own: it was a view of a buffer that others share
    for module in engine.module.modules():
        if isinstance(module._parameters, parameter_offload.ZeROOrderedDict):
            module._parameters = dict(module._parameters)
        for name in _ON_MODULES:
            module.__dict__.pop(name, None)
    stack = parameter_offload.FWD_MODULE_STACK
    stack[:] = [module for module in stack if module is not engine.module]
