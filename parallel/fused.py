"""Updates in the backward itself, for rules without states (LOMO, arXiv 2306.09782): a gradient lives until its weight is
stepped, so that there are never more than a few of them, no optimizer states, and no masters.

What this costs: one micro-batch a step, as gradients are never added up, and no clipping, as the norm is known when all is
done. In bf16 the weights themselves are rounded after each step. A step whose loss is not finite changes nothing; from the
first gradient on that is not finite nothing changes either, but the weights above it, nearer to the loss, are stepped already.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel import deepspeed_compat
from parallel.errors import ParallelError
from parallel.optimizer import FusedOptimizer
from parallel.options import EngineOptions
from parallel.topology import Topology


class FusedUpdates:
    """In the place of ZeRO: hooks that reduce a gradient over the ranks that share its weight, step the weight, and drop it."""

    def __init__(
        self,
        module: torch.nn.Module,
        names: Mapping[torch.nn.Parameter, str],
        optimizer: FusedOptimizer,
        options: EngineOptions,
        topology: Topology,
    ) -> None:
        """names: what is trained. Raises ParallelError for settings that need gradients to stay."""
        _refuse(options, topology)
        if options.precision == "bf16":
            module.bfloat16()
        self._module, self._optimizer, self._topology = module, optimizer, topology
        self._groups = {param: group for group in optimizer.param_groups for param in group["params"]}
        self._order = list(names)[::-1]  # about the order of a backward
        self._hooks = [param.register_post_accumulate_grad_hook(self._arrived) for param in names]
        self._done, self._here = 0, set[torch.nn.Parameter]()
        self._squares = torch.zeros((), dtype=torch.float64, device=next(module.parameters()).device)
        self._is_finite, self._backwards, self._is_trial = True, 0, False
        self._broken = torch.zeros_like(self._squares)  # 1 once a gradient of this step is not finite, on every rank

    def before_backward(self, loss: torch.Tensor, check: Callable[[], None]) -> None:
        """All ranks agree whether the loss is finite: afterwards it is too late."""
        if self._is_trial:
            return
        self._backwards += 1
        if self._backwards > 1:
            raise ParallelError(
                "optim=lomo steps in the backward and cannot add up micro-batches: choose data.global_batch = "
                "data.micro_batch x data-parallel processes, or another optim=."
            )
        wrong = (~loss.detach().isfinite()).float()
        dist.all_reduce(wrong)
        self._is_finite = wrong.item() == 0

    def step(self, accepts: Callable[[float], bool] | None = None) -> tuple[float, bool]:
        """All is done but the norm."""
        if accepts is not None:
            raise ParallelError(
                "guard.skip_spikes=true with an optimizer that steps in the backward: the norm is known when all is done. Choose "
                "guard=default, or another optim=."
            )
        squares, was_finite = self._squares.clone(), self._is_finite
        dist.all_reduce(squares)
        self.discard()
        norm = float(squares.sqrt())
        return (norm, not was_finite) if math.isfinite(norm) else (math.inf, True)

    @contextmanager
    def only_trying(self) -> Iterator[None]:
        """Gradients are dropped as they come."""
        self._is_trial = True
        try:
            yield
        finally:
            self._is_trial = False

    def discard(self) -> None:
        """There is nothing left."""
        self._squares.zero_()
        self._broken.zero_()
        self._is_finite, self._backwards, self._done = True, 0, 0
        self._here.clear()

    def refresh(self) -> None:
        """The weights are the only ones."""

    def stored_weights(self) -> AbstractContextManager[None]:
        """Those that there are."""
        return nullcontext()

    def release(self) -> None:
        """The hooks go."""
        for hook in self._hooks:
            hook.remove()
        deepspeed_compat.unregister_experts(self._module)

    def _arrived(self, param: torch.nn.Parameter) -> None:
        """Steps what is next. One order for all: ranks with other pages have their gradients in another one, and would wait
        for each other."""
        if self._is_trial:
            param.grad = None
            return
        self._here.add(param)
        while self._done < len(self._order) and self._order[self._done] in self._here:
            self._stepped(self._order[self._done])
            self._done += 1

    @torch.no_grad()
    def _stepped(self, param: Any) -> None:
        gradient, param.grad = param.grad.float(), None
        group = parallel_state.get_data_parallel_group()
        if getattr(param, "allreduce", True) is False:
            group = parallel_state.get_expert_data_parallel_group()
        if group.size() > 1:
            dist.all_reduce(gradient, group=group)
        gradient /= self._topology.data
        copies = group.size()
        if getattr(param, "allreduce", True) and not getattr(param, "tensor_model_parallel", False):
            copies *= self._topology.tensor
        squares = gradient.double().square().sum()
        self._squares += squares / copies
        if self._is_finite:
            self._update(param, gradient, squares)

    def _update(self, param: Any, gradient: torch.Tensor, squares: torch.Tensor) -> None:
        """As the rule says, unless a gradient of this step was not finite on any rank. The host waits for nothing."""
        self._broken += ~squares.isfinite()
        if self._topology.tensor > 1 or self._topology.expert > 1:  # these have gradients of their own
            dist.all_reduce(self._broken)
        before = param.detach().clone()
        self._optimizer.update(param, gradient, self._groups[param])
        torch.where(self._broken > 0, before, param, out=param)


def _refuse(options: EngineOptions, topology: Topology) -> None:
    wrong = {
        f"engine.zero={options.zero}": (options.zero != 1, "engine.zero=1"),
        f"engine.clip={options.clip}": (options.clip > 0, "engine.clip=0"),
        "engine.offload=true": (options.offload, "engine.offload=false"),
        f"parallel.pipeline={topology.pipeline}": (topology.pipeline > 1, "parallel.pipeline=1"),
    }
    for setting, (is_wrong, choice) in wrong.items():
        if is_wrong:
            raise ParallelError(
                f"{setting} with an optimizer that steps in the backward: no gradient stays. Choose {choice}, or another optim=."
            )
