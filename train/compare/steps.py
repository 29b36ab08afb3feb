"""The first step at which what two runs logged differs, and what that says about where to look."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.monitor.catalogue import metric_of
from train.run_folder import read_rows

# in the order in which a step makes them: the first of these that differs is nearest to the cause
CAUSES = {
    "batch": "other samples or another order: look at the data, its settings and its bad samples",
    "level": "the curriculum moved on at another time",
    "lr": "another learning rate: look at the schedule and its settings",
    "loss": "the same samples: the weights before this step or the forward pass differ",
    "objective": "the cross-entropy is equal: one of the other losses differs",
    "grad_norm": "the losses are equal: the backward pass or the reduction of gradients differs",
    "skipped": "one run refused the step",
}
OF_THE_MACHINE = ("Throughput", "Memory", "Health")  # sections of the catalogue that differ from run to run


@dataclass(frozen=True)
class PartedStep:
    """metric: the first that differs at `step`, with both values; others: further ones that do at this step."""

    step: int
    metric: str
    values: tuple[Any, Any]
    others: tuple[str, ...] = ()

    @property
    def cause(self) -> str:
        """What it says, in words; "" where it says nothing by itself."""
        return CAUSES.get(self.metric, "")


@dataclass(frozen=True)
class Steps:
    """counts: steps that each run logged; common: those of both. parted: None where these are equal."""

    counts: tuple[int, int]
    common: int
    parted: PartedStep | None


def compare_steps(first: Path, second: Path, rtol: float = 0.0) -> Steps:
    """By the metrics.jsonl of two run folders. rtol: relative difference that counts as none."""
    one, two = _by_step(first), _by_step(second)
    common = sorted(one.keys() & two.keys())
    parted = next((found for step in common if (found := _parted(step, one[step], two[step], rtol))), None)
    return Steps((len(one), len(two)), len(common), parted)


def is_near(one: Any, two: Any, rtol: float) -> bool:
    """Whether two logged values count as equal."""
    numbers = isinstance(one, (int, float)) and isinstance(two, (int, float))
    return one == two or (numbers and rtol > 0 and math.isclose(one, two, rel_tol=rtol))


def _by_step(folder: Path) -> dict[int, dict[str, Any]]:
    """What was logged of each step, evaluations after it included."""
    found: dict[int, dict[str, Any]] = {}
    for row in read_rows(folder / "metrics.jsonl"):
        if "note" not in row:
            found.setdefault(row["step"], {}).update(row)
    return found


def _parted(step: int, one: dict[str, Any], two: dict[str, Any], rtol: float) -> PartedStep | None:
    names = dict.fromkeys((*CAUSES, *one, *two))
    logged = [name for name in names if name in one and name in two and not _is_of_the_machine(name)]
    differ = [name for name in logged if not is_near(one[name], two[name], 0.0 if name == "batch" else rtol)]
    return (
        PartedStep(step, differ[0], (one[differ[0]], two[differ[0]]), tuple(differ[1:])) if differ else None
    )


def _is_of_the_machine(name: str) -> bool:
    metric = metric_of(name)
    return metric is not None and metric.section in OF_THE_MACHINE
