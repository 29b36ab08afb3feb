"""Short texts first: which sources a run reads from, advanced by how well the model reads the newest of them.

Pages that hold more text per vision token than the model can follow yet only cost time, so a level adds a source when
the previous ones are read well enough, measured on held-out pages, or when its patience is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Curriculum:
    """levels: names of the sources that each level adds; no levels = all sources from the start.

    weights: the share of every source, from the data configuration. advance_at: token accuracy (0..1) on the newest
    source that ends a level; max_steps: steps after which a level ends regardless, 0 = never.
    """

    levels: list[list[str]]
    weights: Mapping[str, int]
    advance_at: float
    max_steps: int
    level: int = 0
    entered_at: int = field(default=0)

    def shares(self) -> dict[str, int]:
        """Source -> weight in the mixture of the current level."""
        added = [name for level in self.levels[: self.level + 1] for name in level]
        return {name: self.weights[name] for name in (added or self.weights)}

    def newest(self) -> list[str]:
        """The sources that this level added: the ones whose accuracy decides."""
        return self.levels[self.level] if self.levels else list(self.weights)

    def observe(self, step: int, accuracy: Mapping[str, float]) -> bool:
        """Tells the accuracies measured after `step`; True when a new level begins with the next step."""
        if self.level + 1 >= len(self.levels):
            return False
        read = all(accuracy.get(name, 0.0) >= self.advance_at for name in self.newest())
        patience_over = 0 < self.max_steps <= step - self.entered_at
        if not (read or patience_over):
            return False
        self.level, self.entered_at = self.level + 1, step
        return True

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"level": self.level, "entered_at": self.entered_at}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state()` told."""
        self.level, self.entered_at = int(state["level"]), int(state["entered_at"])
