"""What happens to gradients between a backward and the optimizer's step."""

from collections.abc import Callable
from typing import Any

import torch

from parallel.options import EngineOptions


def partitions_gradients(options: EngineOptions) -> bool:
    """Whether gradients are reduced when each backward ends, and not in the step."""
    return options.zero > 1


def reduce_after_backward(engine: Any, loss: torch.Tensor, check: Callable[[], None]) -> None:
    """Lets stages 2 and 3 reduce and partition the gradients when the backward of `loss` ends, after `check`.

    DeepSpeed finds the end of a backward itself once it is told of the beginning, from inside of it, and counts the
    gradients of each backward anew.
    """
    engine.optimizer.clear_backward_seen_flag()

    def begin(_: torch.Tensor) -> None:
        torch.autograd.Variable._execution_engine.queue_callback(check)  # type: ignore[attr-defined]
        engine._backward_prologue()

    loss.register_hook(begin)


def accumulated_gradient(param: torch.nn.Parameter) -> torch.Tensor:
    """What stage 1 reduces in its step: the sum over micro-batches so far, to be changed in place.

    fp32, in a buffer of DeepSpeed's own with bf16 weights.
    """
    for name in ("_hp_grad", "grad_accum", "grad"):
        gradient = getattr(param, name, None)
        if gradient is not None:
            return gradient
    raise ValueError("the parameter has no gradient: no backward has reached it since the last step")


def step(engine: Any, options: EngineOptions) -> None:
    """Reduces what is not reduced yet, clips, updates. Nothing is updated when the gradient is not finite."""
    engine.step()
    if options.offload and engine.optimizer.overflow:
        discard(engine, options)  # DeepSpeed keeps the host's sums, and would add the next gradients to them


def discard(engine: Any, options: EngineOptions) -> None:
    """Throws away the gradients of this step, so that the next one starts from none."""
    optimizer = engine.optimizer
    if options.zero == 3:
        optimizer._overflow_clean_up(prev_scale=1.0)
        return
    if options.offload:
        from deepspeed.runtime.zero.stage_1_and_2 import INITIAL_MICRO_STEP_ID

        optimizer.micro_step_id = INITIAL_MICRO_STEP_ID  # else the next gradients would be added to these
        optimizer.reset_cpu_buffers()
    elif partitions_gradients(options):  # they are reduced already
        optimizer.finalize_gradient_accumulation_boundary()
    if options.offload or partitions_gradients(options):
        optimizer._release_preflattened_grad_buffers()
        for table in (optimizer.averaged_gradients, optimizer.all_grad_tensors):
            for group in table:
                table[group] = None
    optimizer.zero_grad(set_to_none=True)
