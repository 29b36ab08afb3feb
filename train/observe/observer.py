"""What the loop tells its observers about each step, and what they may add to metrics.jsonl. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from data_pipeline.batch import MicroBatch
    from parallel.engine import StepOutput


@dataclass(frozen=True)
class Look:
    """A step that is done. seconds: of the whole step; waited: of them, for data. batches: of this rank."""

    step: int
    batches: Sequence["MicroBatch"]
    output: "StepOutput"
    seconds: float
    waited: float


class Observer(Protocol):
    """Looks at steps, on every rank together, so that it may use collectives; it changes nothing that is computed."""

    def before(self, step: int) -> None:
        """The step of this number begins."""

    def after(self, look: Look) -> Mapping[str, Any]:
        """Metrics of the step for metrics.jsonl, by the names of train/monitor/catalogue.py; {} when there is nothing to tell."""

    def close(self) -> None:
        """There are no more steps, whatever the reason."""
