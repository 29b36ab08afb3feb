"""One step of a recipe, and the part of it that decides its result. Loads nothing heavy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FIXED = ("build", "merge", "export", "compare", "evaluate", "report")  # whatever else is named is a stage
WITHOUT_EFFECT = {  # what a step may change between two calls without becoming another step
    "run",
    "logger",
    "overrides",
    "out",
    "workers",
    "overwrite",
    "data.micro_batch",
    "data.root",
    "stage.keep_checkpoints",
    "restart",
}


@dataclass(frozen=True)
class Step:
    """One step: its name, its configuration, and the path where its results are.

    command: what it runs where it is a command of its own, in a process of its own: `python -m` these arguments.
    """

    name: str
    config: Any
    output: Path
    command: tuple[str, ...] = ()

    @property
    def is_stage(self) -> bool:
        """Whether this step trains."""
        return self.name not in FIXED

    def settings(self) -> dict[str, Any]:
        """The values that decide this step's result: dotted name → value."""
        flat = _flatten(asdict(self.config)) if self.config is not None else {}
        return {
            name: value
            for name, value in flat.items()
            if not any(name == free or name.startswith(free + ".") for free in WITHOUT_EFFECT)
        }


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(
            _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return flat
