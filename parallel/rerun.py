"""A step computed once more, to tell a fault of the machine from one of the data or the model: what comes out finite the
second time was no property of the batch (Megatron-LM's rerun state machine asks the same way). Nothing is updated.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rerun:
    """What came out on this rank.

    losses: what its pieces of the model add to the objective, one number a micro-batch. gradients: (micro-batch, parameter)
    whose gradient here, before ranks add theirs up, is not finite, in the order in which a backward reached them.
    """

    losses: tuple[float, ...]
    gradients: tuple[tuple[int, str], ...]


class OwnLosses:
    """What this rank's pieces of the model added to the objective in each micro-batch, kept on the device until somebody asks."""

    def __init__(self) -> None:
        self._of: dict[torch.nn.Module, list[torch.Tensor]] = {}

    def clear(self) -> None:
        """A step begins."""
        self._of = {}

    def add(self, piece: torch.nn.Module, loss: torch.Tensor) -> None:
        """A piece's forward of its next micro-batch is done. The schedule scales `loss` in place: all of them alike."""
        self._of.setdefault(piece, []).append(loss.detach())

    def values(self) -> tuple[float, ...]:
        """One number a micro-batch, over all pieces; waits for the device."""
        if not self._of:
            return ()
        pieces = [torch.stack([loss.double() for loss in losses]) for losses in self._of.values()]
        return tuple(torch.stack(pieces).sum(0).tolist())


@contextmanager
def watching(names: Mapping[torch.nn.Parameter, str]) -> Iterator[Callable[[], tuple[tuple[int, str], ...]]]:
    """Inside, backwards note which gradients are not finite; what it gives tells which: see `Rerun.gradients`."""
    seen: list[tuple[int, str, torch.Tensor]] = []
    counts = dict.fromkeys(names, 0)

    def note(param: torch.nn.Parameter, name: str) -> Callable[[torch.Tensor | None], None]:
        def noting(gradient: torch.Tensor | None) -> None:
            if gradient is not None:
                seen.append((counts[param], name, gradient.isfinite().all()))
                counts[param] += 1  # backwards come in the order of the micro-batches

        return noting

    def found() -> tuple[tuple[int, str], ...]:
        return tuple((number, name) for number, name, is_finite in seen if not is_finite)

    hooks = [param.register_hook(note(param, name)) for param, name in names.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def same_randomness() -> Iterator[None]:
    """Random numbers drawn inside leave those that follow as they would have been."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield
