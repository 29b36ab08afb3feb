"""Sums over the bits of every weight, gradient and optimizer tensor, for `python -m train.compare`: it finds the first step and
tensor at which two runs part, also between checkpoints.

A row of checksums.jsonl belongs to a step. "state" is what a checkpoint would hold after it, equal in all layouts as long as
the numbers are. "gradients" are those of this step as each rank's backward gave them, before anything was reduced, in the order
in which a backward first reached them: they are comparable within one layout.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.lines import Lines
from train.observe.observer import Look
from train.run_folder import CHECKSUMS, keep_until

if TYPE_CHECKING:
    import torch

    from parallel.checksums import Sums
    from parallel.engine import Engine


class Checksums:
    """Writes a row every `every` steps, and one for what the first step began with."""

    def __init__(self, engine: "Engine", folder: Path, every: int, writes: bool) -> None:
        """writes: on one rank."""
        self._engine, self._lines, self._every, self._writes = (
            engine,
            Lines(folder / CHECKSUMS),
            every,
            writes,
        )
        self._began = False
        self._gradients: dict[str, list[torch.Tensor]] = {}
        self._hooks: list[Any] = []

    def before(self, step: int) -> None:
        """The first time, what is there to begin with is summed up; in a step that is due, gradients are as they come."""
        if not self._began:
            self._began = True
            self._begin(step - 1)
        if step % self._every == 0:
            named = self._engine.trained_keys().items()
            self._hooks = [parameter.register_hook(self._summing(key)) for parameter, key in named]

    def after(self, look: Look) -> Mapping[str, Any]:
        """Adds nothing to metrics.jsonl."""
        if look.step % self._every == 0:
            from parallel.checksums import over_ranks

            self.close()
            gradients = over_ranks(self._gradients, from_last=True)
            self._gradients = {}
            self._write(look.step, gradients)
        return {}

    def close(self) -> None:
        """Takes the hooks off the parameters."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _begin(self, step: int) -> None:
        if self._writes:
            keep_until(self._lines.path, step)
        self._write(step, {})

    def _summing(self, key: str) -> Any:
        from parallel.checksums import bits_and_squares

        def add(gradient: "torch.Tensor | None") -> None:
            if gradient is not None:
                self._gradients.setdefault(key, []).append(bits_and_squares(gradient))

        return add

    def _write(self, step: int, gradients: "Sums") -> None:
        from parallel.checksums import sums_of_pieces

        state = sums_of_pieces(self._engine.pieces(), self._engine.trained_keys().values())  # by all ranks
        if self._writes:
            layout = asdict(self._engine.topology)
            row = {"step": step, "layout": layout, "state": _told(state), "gradients": _told(gradients)}
            self._lines.append([row])


def _told(sums: "Sums") -> dict[str, tuple[str, float]]:
    """key -> (sum of bits, norm), for JSON."""
    return {key: (f"{bits:016x}", squares**0.5) for key, (bits, squares) in sums.items()}
