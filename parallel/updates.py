"""What turns gradients into weights: DeepSpeed's ZeRO, as the engine uses it."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from parallel import deepspeed_compat
from parallel.average import Average
from parallel.errors import ParallelError
from parallel.optimizer import EngineOptimizer
from parallel.optimizer_pieces import Place
from parallel.options import EngineOptions
from parallel.whole import Whole, Wholes


class Updates(Protocol):
    """What the engine asks of them. All ranks call all of it together."""

    def before_backward(self, loss: torch.Tensor, check: Callable[[], None]) -> None:
        """A micro-batch's forward is done. `check`: before ranks reduce together what a backward gave."""

    def step(self, accepts: Callable[[float], bool] | None = None) -> tuple[float, bool]:
        """Updates the weights, unless the gradient is not finite or `accepts` refuses its norm; (the norm, inf where it is not
        finite; whether nothing was updated)."""

    def only_trying(self) -> AbstractContextManager[None]:
        """Backwards inside change no weight; `discard` follows."""

    def discard(self) -> None:
        """The gradients of this step are not used."""

    def refresh(self) -> None:
        """The module's weights become those that were loaded."""

    def stored_weights(self) -> AbstractContextManager[None]:
        """The module has the weights that are stored, inside."""

    def release(self) -> None:
        """Takes hooks and marks off the module, which keeps the weights that are stored."""


class ZeroUpdates:
    """By DeepSpeed's ZeRO."""

    def __init__(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        options: EngineOptions,
        masters: Mapping[torch.nn.Parameter, torch.Tensor],
        trained: Iterable[Place],
        told: Callable[[], None],
    ) -> None:
        """masters: values that DeepSpeed would round. told: called when the module has other weights for a while."""
        self._optimizer, self._options, self._trained = optimizer, options, list(trained)
        self._deepspeed = deepspeed_compat.initialize(module, optimizer, options, masters)
        self._average = Average(self._deepspeed, optimizer, told)
        if isinstance(optimizer, EngineOptimizer) and optimizer.looks_at_wholes:
            optimizer.bind(self._wholes())

    def before_backward(self, loss: torch.Tensor, check: Callable[[], None]) -> None:
        """Stages 2 and 3 reduce every backward's gradients when it ends."""
        if deepspeed_compat.partitions_gradients(self._options):
            deepspeed_compat.reduce_after_backward(self._deepspeed, loss, check)

    def step(self, accepts: Callable[[float], bool] | None = None) -> tuple[float, bool]:
        """Reduces what is not reduced yet, clips, updates."""
        refused: list[float] = []

        def is_accepted(norm: float) -> bool:
            if accepts is None or accepts(norm):
                return True
            refused.append(norm)
            return False

        with deepspeed_compat.deciding(is_accepted) if accepts else nullcontext():
            deepspeed_compat.step(self._deepspeed, self._options)
        norm = refused[0] if refused else float(self._deepspeed.get_global_grad_norm())
        return norm, bool(self._deepspeed.optimizer.overflow)

    def only_trying(self) -> AbstractContextManager[None]:
        """They never do: `step` does."""
        return nullcontext()

    def discard(self) -> None:
        """The next step starts from no gradients."""
        deepspeed_compat.discard(self._deepspeed, self._options)

    def refresh(self) -> None:
        """From the masters."""
        deepspeed_compat.refresh(self._deepspeed)

    def stored_weights(self) -> AbstractContextManager[None]:
        """Averages with optimizers that step others."""
        return self._average.shown()

    def release(self) -> None:
        """With whole weights at every stage."""
        self._average.keep()
        deepspeed_compat.release(self._deepspeed, [place.tensor for place in self._trained])  # type: ignore[misc]  # they are parameters

    def _wholes(self) -> Wholes:
        if self._options.zero > 2 or self._options.offload:
            raise ParallelError(
                "The optimizer looks at whole matrices: stage 3 leaves them on no rank, and an offloaded one has them on the "
                "host. Choose engine.zero=1 or 2 and engine.offload=false, or another optim=."
            )
        found: list[tuple[Any, Any]] = [
            (place.entry, deepspeed_compat.segment(self._deepspeed, self._optimizer, place.tensor))
            for place in self._trained
        ]
        return Wholes(Whole(entry, segment) for entry, segment in found if segment is not None)
