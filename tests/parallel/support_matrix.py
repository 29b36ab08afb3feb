"""docs/parallelism.md's table: which layout goes with which engine, from the tested cases and the engine's own refusals.

    python -m tests.parallel.support_matrix      writes it anew
"""

import sys
from collections.abc import Callable
from pathlib import Path

from parallel.errors import UnsupportedLayout
from parallel.options import EngineOptions, check
from parallel.topology import Topology
from tests.parallel.layouts import CASES, Case

DOCUMENT = Path(__file__).parents[2] / "docs" / "parallelism.md"
BEGIN, END = "<!-- made by tests/parallel/support_matrix.py -->", "<!-- end -->"
TESTED, ALLOWED, REFUSED = "**tested**", "allowed", "refused"
SPLITS = ("tensor", "pipeline", "expert")
LAYOUTS = {
    "data": {},
    "tensor (with sequence)": {"tensor": 2},
    "pipeline": {"pipeline": 2},
    "interleaved pipeline": {"pipeline": 2, "virtual": 2},
    "pipeline, encoder on stages of its own": {"pipeline": 4, "encoder_stages": 2},
    "expert": {"expert": 2},
    "tensor x pipeline": {"tensor": 2, "pipeline": 2},
    "tensor x expert": {"tensor": 2, "expert": 2},
    "pipeline x expert": {"pipeline": 2, "expert": 2},
    "tensor x pipeline x expert": {"tensor": 2, "pipeline": 2, "expert": 2},
}  # fmt: skip
COLUMNS: dict[str, tuple[EngineOptions, Callable[[Case], bool]]] = {
    "ZeRO-1": (EngineOptions(), lambda case: case.engine.get("zero", 1) == 1),
    "ZeRO-2": (EngineOptions(zero=2), lambda case: case.engine.get("zero") == 2),
    "ZeRO-3": (EngineOptions(zero=3), lambda case: case.engine.get("zero") == 3),
    "offload": (EngineOptions(offload=True), lambda case: bool(case.engine.get("offload"))),
    "bf16": (EngineOptions(precision="bf16"), lambda case: case.engine.get("precision") == "bf16"),
    "recompute": (EngineOptions(), lambda case: case.engine.get("recompute", "none") != "none"),
    "DoRA": (EngineOptions(), lambda case: case.variant == "dora"),
    "frozen encoder": (EngineOptions(), lambda case: bool(case.frozen)),
}


def cell(sizes: dict[str, int], options: EngineOptions, meant: Callable[[Case], bool]) -> str:
    """What becomes of a layout with an engine."""
    if any(_is_of(case, sizes) and meant(case) for case in CASES.values()):
        return TESTED
    own = {name: sizes.get(name, 1) for name in (*SPLITS, "virtual")}
    try:
        check(Topology(**own, data=2), options)
    except UnsupportedLayout:
        return REFUSED
    return ALLOWED


def table() -> str:
    """The table in Markdown."""
    lines = ["| split | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, sizes in LAYOUTS.items():
        cells = [cell(sizes, options, meant) for options, meant in COLUMNS.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """A document with the table as it is now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


def _is_of(case: Case, sizes: dict[str, int]) -> bool:
    """Whether a case splits just so, over any number of ranks."""
    asked = {name for name in SPLITS if sizes.get(name, 1) > 1}
    has = {name for name in SPLITS if case.sizes.get(name, 1) > 1}
    kinds = [(which.get("virtual", 1) > 1, which.get("encoder_stages", 0) == 2) for which in (sizes, case.sizes)]
    return asked == has and kinds[0] == kinds[1]


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
    sys.exit(0)
