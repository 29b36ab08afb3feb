"""Puts together what is known about where two runs part, and says it in a few lines."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.errors import UserError
from train.compare.settings import different_settings
from train.compare.steps import Steps, compare_steps
from train.compare.sums import PartedTensors, Sums, compare_sums
from train.find_run import FoundRun, locate

if TYPE_CHECKING:
    from train.compare.tensors import Difference, PartedCheckpoint

SHOWN = 8  # settings that are listed


@dataclass(frozen=True)
class Comparison:
    """checkpoints: those of equal steps, up to the first that differs."""

    runs: tuple[Path, Path]
    settings: list[tuple[str, Any, Any]]
    steps: Steps
    sums: Sums
    checkpoints: "list[PartedCheckpoint]"
    rtol: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether all that both runs have is equal; settings may differ."""
        return not (
            self.steps.parted or self.sums.parted or any(not found.equal for found in self.checkpoints)
        )

    @property
    def parted_at(self) -> int | None:
        """The first step at which anything differs."""
        found = [parted.step for parted in (self.steps.parted, *self.sums.parted[:1]) if parted]
        found += [checkpoint.step for checkpoint in self.checkpoints if not checkpoint.equal]
        return min(found, default=None)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "runs": [str(run) for run in self.runs],
            "equal": self.equal,
            "parted_at": self.parted_at,
            "settings": [{"name": name, "values": values} for name, *values in self.settings],
            "steps": asdict(self.steps),
            "sums": asdict(self.sums),
            "checkpoints": [asdict(found) for found in self.checkpoints],
        }


def compare(first: Path, second: Path, rtol: float = 0.0, checkpoints: bool = True) -> Comparison:
    """What two runs have in common and where they part. Raises UserError where they have nothing in common."""
    one, two = locate(first, "a"), locate(second, "b")
    folders = one.folder, two.folder
    steps, sums = compare_steps(*folders, rtol), compare_sums(*folders, rtol)
    found = list(_checkpoints(one, two, rtol)) if checkpoints else []
    if not (steps.common or sums.common or found):
        raise UserError(
            f"{first} and {second} have no step in common: one of them has hardly begun, or they went other ways."
        )
    return Comparison(folders, different_settings(*folders), steps, sums, found, rtol)


def _checkpoints(one: FoundRun, two: FoundRun, rtol: float) -> "Iterator[PartedCheckpoint]":
    """Until one differs: what follows from it tells nothing new."""
    roots = one.folder / "checkpoints", two.folder / "checkpoints"
    if not all(root.is_dir() for root in roots):
        return
    from train.compare.tensors import compare_checkpoints

    for found in compare_checkpoints(*roots, rtol):
        yield found
        if not found.equal:
            return


def told(found: Comparison) -> Iterator[str]:
    """The lines for a person."""
    yield f"{found.runs[0]} and {found.runs[1]}"
    yield from _settings(found)
    yield f"  steps        {_steps(found.steps)}"
    yield from _tensors(found.sums)
    yield from _saved(found.checkpoints)
    how = f"within {found.rtol:g}" if found.rtol else "bit by bit"
    yield f"equal, {how}, as far as both go" if found.equal else f"parted at step {found.parted_at}"


def _settings(found: Comparison) -> Iterator[str]:
    shown = [f"{name} {one} / {two}" for name, one, two in found.settings]
    more = [f"and {len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
    yield f"  settings     {', '.join([*shown[:SHOWN], *more]) or 'the same'}"


def _steps(steps: Steps) -> str:
    if not steps.common:
        return "none in common"
    parted, counts = steps.parted, f"{steps.counts[0]} and {steps.counts[1]} logged"
    if parted is None:
        return f"{steps.common} in common, equal ({counts})"
    others = (
        f"; also {', '.join(parted.others[:4])}{', …' if len(parted.others) > 4 else ''}"
        if parted.others
        else ""
    )
    cause = f" ({parted.cause})" if parted.cause else ""
    return f"first at {parted.step}: {parted.metric} {parted.values[0]} / {parted.values[1]}{cause}{others}"


def _tensors(sums: Sums) -> Iterator[str]:
    if not sums.common:
        yield "  tensors      no sums of their bits (logger.checksums_every=1 writes them)"
    elif not sums.parted:
        kinds = (
            "weights, gradients and optimizer"
            if sums.gradients
            else "weights and optimizer (gradients: other layouts)"
        )
        yield f"  tensors      sums of {sums.common} steps, equal: {kinds}"
    for number, parted in enumerate(sums.parted):
        yield f"  {'tensors' if number == 0 else '':12} {_parted(parted)}"


def _parted(parted: PartedTensors) -> str:
    order = ", in the order of the backward pass" if parted.kind == "gradient" else ""
    when = (
        f"at the beginning (after step {parted.step})"
        if parted.kind != "gradient" and parted.step == 0
        else f"at {parted.step}"
    )
    one, two = parted.norms
    norms = f", norms {one:.9g} / {two:.9g}" if one is not None and two is not None else ""
    return f"first {when}: {parted.count} of {parted.total} {parted.kind}s{order}, first {parted.name}{norms}"


def _saved(checkpoints: "list[PartedCheckpoint]") -> Iterator[str]:
    equal = [str(found.step) for found in checkpoints if found.equal]
    if equal:
        yield f"  checkpoints  equal at {', '.join(equal)}"
    for parted in (found for found in checkpoints if not found.equal):
        lines = [*(f"damaged: {text}" for text in parted.damaged), *map(_difference, parted.differences)]
        lines += [f"{', '.join(parted.facts)} differ"] if parted.facts else []
        lines += (
            [f"{len(parted.alone)} tensors are in one of them alone, first {parted.alone[0]}"]
            if parted.alone
            else []
        )
        for number, line in enumerate(lines):
            yield f"  {'checkpoints' if number == 0 and not equal else '':12} {f'at {parted.step}: ' if number == 0 else ''}{line}"


def _difference(found: "Difference") -> str:
    return (
        f"{found.count} of {found.total} {found.kind}s, first {found.name}: {found.elements} of {found.size} elements, "
        f"by at most {found.largest:.3g}"
    )
