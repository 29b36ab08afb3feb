"""What a person is told about a step that went wrong."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.config import Config
from train.guard.culprits import Culprits

SHOWN = 3  # samples in a line; bad_steps.jsonl has all


def not_finite(step: int, loss: float, culprits: Culprits) -> str:
    """One line about a step that was skipped for its loss or its gradient."""
    if math.isfinite(loss):
        what = f"its gradient is not finite, its loss is {loss:.4g}"
    else:
        what = "its loss is not finite"
    return f"step {step} skipped: {what}; {_who(culprits)}. {_why(culprits)}"


def spike(step: int, deviations: Mapping[str, float], values: Mapping[str, float], skipped: bool, culprits: Culprits) -> str:
    """One line about a step that stands out."""
    names = {"loss": "the loss", "grad_norm": "the gradient norm"}
    parts = [f"{names[name]}, {values[name]:.4g}, is {z:.1f} deviations above the steps before it" for name, z in deviations.items()]
    done = "skipped" if skipped else "made all the same"
    return f"step {step} {done}: {' and '.join(parts)}; the largest part is of {_samples(list(culprits.samples))}"


def ended(step: int, count: int, last: str, advice: str, config: Config, file: Path) -> str:
    """Why a run ends after `count` skipped steps in a row, and what may help."""
    return (
        f"{count} steps in a row changed nothing (guard.max_skipped={config.guard.max_skipped}), so the run ends; the weights are those "
        f"after step {step - count}. The last one: {last}. {advice}. All of them: {file}."
    )


def advice(culprits: Culprits, always: Sequence[int], world: int, config: Config) -> str:
    """What may help. always: the ranks that all of the steps went wrong on; some of `world` point at a machine."""
    if 0 < len(always) < world:
        return f"It was always {_ranks(always)}, whatever the samples: look at that machine first, leave it out; else try {remedies(config)}"
    if culprits.again is False:
        return "What passes so often is a machine's fault: start on other ones"
    return f"Where the named samples are at fault, take them out of the shards; else try {remedies(config)}"


def remedies(config: Config) -> str:
    """Overrides that help a run whose numbers leave what its format holds."""
    found = [f"optim.lr={config.optim.lr / 4:g}"]
    if config.engine.clip == 0 and config.optim.name != "lomo":
        found.append("engine.clip=1.0")
    if config.engine.precision != "fp32":
        found.append("engine.precision=fp32")
    if config.guard.skip_spikes:
        found.append("guard=default")
    return " or ".join(found)


def _who(culprits: Culprits) -> str:
    found = []
    if culprits.parameters:
        rank, (names, count) = next(iter(culprits.parameters.items()))
        found.append(f"{names[0]}{f' and {count - 1} more parameters' if count > 1 else ''} on rank {rank}")
    if culprits.samples:
        on = "" if culprits.parameters else f" on {_ranks(culprits.ranks)}"
        found.append(f"samples {_samples(list(culprits.samples))}{on}")
    return ", ".join(found) or "no micro-batch by itself is to blame"


def _why(culprits: Culprits) -> str:
    if culprits.again:
        return "Computed once more it is not finite again: it comes from the data or the model"
    at = f" of {_ranks(culprits.ranks)}" if culprits.ranks else ""
    return f"Computed once more it is finite: a passing fault of the machine{at}, or of the sum over ranks"


def _samples(samples: Sequence[str]) -> str:
    shown = ", ".join(samples[:SHOWN])
    return shown if len(samples) <= SHOWN else f"{shown} and {len(samples) - SHOWN} more"


def _ranks(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}"
