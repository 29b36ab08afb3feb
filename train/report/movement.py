"""How far the weights of a run moved, in numbers: what weight_decomposition.jsonl comes to."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from train.report.run import Stage
from train.run_folder import WEIGHT_DECOMPOSITION, read_rows

KINDS = {
    "none": "all weights",
    "full": "full",
    "lora": "LoRA",
    "dora": "DoRA",
}  # what trained, as people say it
LEAST = 3  # points of which a correlation is told
Point = tuple[float, float]  # (change of direction, change of magnitude)


@dataclass(frozen=True)
class Movement:
    """Rows of one run or stage, in the order of steps: step, layer, direction, magnitude, and the correlation of the two between
    the rows of that weight (None where there is none).
    """

    label: str
    rows: Sequence[Mapping[str, Any]]

    def looks(self) -> dict[int, list[Mapping[str, Any]]]:
        """Step -> its rows."""
        return {step: list(rows) for step, rows in groupby(self.rows, lambda row: int(row["step"]))}

    def correlations(self) -> dict[str, Any]:
        """pooled: over all layers and looks. by_step: over the layers of each look. by_row: between the rows within a weight,
        mean over layers, at the last look. None where it is not defined.
        """
        looks = self.looks()
        last = looks[max(looks)] if looks else []
        within = [row["correlation"] for row in last if row.get("correlation") is not None]
        return {
            "pooled": correlation(points_of(self.rows)),
            "by_step": {step: correlation(points_of(rows)) for step, rows in looks.items()},
            "by_row": statistics.fmean(within) if within else None,
        }

    def to_json(self) -> dict[str, Any]:
        """Label, correlations and rows."""
        return {"label": self.label, **self.correlations(), "rows": [dict(row) for row in self.rows]}


def movement_of(stage: Stage) -> Movement | None:
    """What a stage's folder tells; None where it was not asked for, or has not come to its first look."""
    rows = read_rows(stage.folder / WEIGHT_DECOMPOSITION)
    if not rows:
        return None
    kind = str((stage.config.get("tune") or {}).get("kind", "none"))
    return Movement(f"{stage.name} ({KINDS.get(kind, kind)})", rows)


def points_of(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """(direction, magnitude) of each row."""
    return [(float(row["direction"]), float(row["magnitude"])) for row in rows]


def correlation(points: Sequence[Point]) -> float | None:
    """Pearson's; None for fewer than three points, or where either does not vary."""
    if len(points) < LEAST:
        return None
    try:
        return statistics.correlation(*zip(*points, strict=True))
    except statistics.StatisticsError:
        return None


def signed(value: float | None) -> str:
    """A correlation as people write it: −0.62, +0.83, – where there is none."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")
