"""Which panels there are: one a metric or family of metrics, grouped in the sections of the catalogue, in its order."""

import re
from dataclasses import dataclass

from train.monitor.catalogue import CATALOGUE, Metric
from train.monitor.samples import SAMPLES

SAMPLES_SECTION = "Reading"  # where the table of pages is shown
AXIS = "tokens"


@dataclass(frozen=True)
class Panel:
    """One plot over tokens. pattern: of the metrics it shows, a regular expression; None where it is `metric.name` alone."""

    metric: Metric
    pattern: str | None

    @property
    def title(self) -> str:
        """The metric's name, as it is logged."""
        return self.metric.name.removesuffix("/*")


def sections() -> dict[str, list[Panel]]:
    """Section → its panels. What is the axis itself has none."""
    found: dict[str, list[Panel]] = {}
    for metric in CATALOGUE:
        if metric.name != AXIS:
            pattern = "^" + re.escape(metric.name).replace(r"\*", ".+") + "$" if "*" in metric.name else None
            found.setdefault(metric.section, []).append(Panel(metric, pattern))
    return found


__all__ = ["AXIS", "SAMPLES", "SAMPLES_SECTION", "Panel", "sections"]
