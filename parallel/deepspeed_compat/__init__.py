"""DeepSpeed as the engine uses it: no other package of Microfiche touches a private DeepSpeed name.

`PRIVATE` lists them and a test checks that each exists, so that an upgrade of DeepSpeed fails there and not in a run.
What is worked around here, each measured:

* Its ZeRO optimizers link optimizer states to parameters at the first step, group by group, so that a checkpoint
  written or read before it fails (`prime`).
* It takes `param.allreduce = False`, which megatron-style experts carry, for its own mixture of experts and then wants
  its own expert groups, or refuses them in stage 3 (`register_experts`).
* It compiles a shared-memory all-reduce with ninja on first use on a CPU: a minute for nothing here (`load`).
* In stage 3 it replaces `torch.nn.functional.linear` for the whole process unless told not to (`configuration`), cannot
  put a value into a parameter whose size its ranks do not divide (`fragment`), and never gives weights back (`release`);
  and autograd would keep weights whole that it has freed (`holding_no_weights`).
"""

from parallel.deepspeed_compat.deciding import deciding
from parallel.deepspeed_compat.groups import (
    counts_here,
    forget,
    parameter_groups,
    register_experts,
    unregister_experts,
)
from parallel.deepspeed_compat.lifetime import configuration, initialize, load, prime, release
from parallel.deepspeed_compat.private import PRIVATE
from parallel.deepspeed_compat.state import (
    fragment,
    partitions_of,
    put_whole,
    refresh,
    segment,
    set_update_count,
    state_names,
    update_count,
    whole,
)
from parallel.deepspeed_compat.step import (
    accumulated_gradient,
    discard,
    partitions_gradients,
    reduce_after_backward,
    step,
)
from parallel.deepspeed_compat.views import holding_no_weights

__all__ = [
    "PRIVATE",
    "accumulated_gradient",
    "configuration",
    "counts_here",
    "deciding",
    "discard",
    "forget",
    "fragment",
    "holding_no_weights",
    "initialize",
    "load",
    "parameter_groups",
    "partitions_gradients",
    "partitions_of",
    "prime",
    "put_whole",
    "reduce_after_backward",
    "refresh",
    "register_experts",
    "release",
    "segment",
    "set_update_count",
    "state_names",
    "step",
    "unregister_experts",
    "update_count",
    "whole",
]
