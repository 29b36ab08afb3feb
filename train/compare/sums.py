"""The first step and tensor at which sums over bits differ (train/observe/checksums.py)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.compare.steps import is_near
from train.run_folder import CHECKSUMS, read_rows

PARTS = {
    "gradient": "",
    "weight": "model.",
    "optimizer tensor": "optimizer.",
}  # kind -> what its keys begin with


@dataclass(frozen=True)
class PartedTensors:
    """kind: of PARTS. name: the first that differs, in the order of the backward pass (gradients) or of the model. count: how
    many of `total` do. norms: of the first in both runs, where they are known."""

    step: int
    kind: str
    name: str
    count: int
    total: int
    norms: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Sums:
    """common: steps that both runs summed up. parted: what differs at the first of them that differs at all, in the order in
    which a step makes it. gradients: whether they could be compared: ranks add up what is theirs in one layout only."""

    common: int
    parted: tuple[PartedTensors, ...]
    gradients: bool


def compare_sums(first: Path, second: Path, rtol: float = 0.0) -> Sums:
    """By the checksums.jsonl of two run folders; with a tolerance, norms are compared in the place of bits."""
    one, two = _by_step(first), _by_step(second)
    common = sorted(one.keys() & two.keys())
    alike = all(one[step].get("layout") == two[step].get("layout") for step in common)
    for step in common:
        if found := tuple(_parted(step, one[step], two[step], rtol, alike)):
            return Sums(len(common), found, alike)
    return Sums(len(common), (), alike)


def _by_step(folder: Path) -> dict[int, dict[str, Any]]:
    """A step has two rows where a run went on after it: what was saved, and what was there when it went on."""
    found: dict[int, dict[str, Any]] = {}
    for row in read_rows(folder / CHECKSUMS):
        before = found.get(row["step"], {})
        found[row["step"]] = row | {"gradients": row.get("gradients") or before.get("gradients") or {}}
    return found


def _parted(
    step: int, one: Mapping[str, Any], two: Mapping[str, Any], rtol: float, alike: bool
) -> Iterator[PartedTensors]:
    for kind, prefix in PARTS.items():
        part = "gradients" if kind == "gradient" else "state"
        if kind == "gradient" and not alike:
            continue
        mine, others = _dictionary(one.get(part)), _dictionary(two.get(part))
        names = [name for name in mine if name in others and name.startswith(prefix)]
        differ = [name for name in names if not _equal(mine[name], others[name], rtol)]
        if differ:
            norms = (_norm(mine[differ[0]]), _norm(others[differ[0]]))
            yield PartedTensors(step, kind, differ[0].removeprefix(prefix), len(differ), len(names), norms)


def _equal(one: Sequence[Any], two: Sequence[Any], rtol: float) -> bool:
    """By the bits; their norms are summed up in another order in another layout."""
    return one[:1] == two[:1] if rtol == 0 else is_near(_norm(one), _norm(two), rtol)


def _norm(pair: Any) -> float | None:
    return (
        pair[1] if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], (int, float)) else None
    )


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
