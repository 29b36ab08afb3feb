"""docs/faults.md from the tests: what was injected, what happens, what is lost.

    python -m tests.faults.table        writes docs/faults.md anew

A test that injects a failure says so in a marker, wherever it lives:

    @pytest.mark.fault("disk full", injected="…", handled="…", lost="nothing")

The markers are read from the source, so that the table is made in a moment and without importing a test.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
FAILURES = (  # in the order of the table: signals and processes, then numbers, checkpoints, data, surroundings
    "signal on one rank only",
    "second signal",
    "SIGKILL of a rank",
    "node loss",
    "crash loop",
    "hung collective",
    "NaN or infinite loss or gradient",
    "loss spike",
    "kill -9 inside a save",
    "flipped byte",
    "half-written checkpoint",
    "corrupt manifest",
    "disk full",
    "resume at another world size",
    "truncated or missing shard",
    "bad image",
    "slow storage",
    "data worker killed",
    "out of memory",
    "port clash",
    "clock skew",
    "wandb outage",
    "two runs in one folder",
    "run folder read-only or deleted",
)
BEFORE = """# Failures, and what is lost

Long runs die of everything. Each row is a failure that a test injects, on CPU, in every run of `make test`: real signals, real
processes, real bytes, real full disks. Where a run is started again, by the same command, losses, gradient norms and batches of its
whole life are then compared with those of a run that nothing happened to: they are bit-equal, unless the row says "to rounding".

Made from the markers of the tests by `python -m tests.faults.table`; run them with `pytest -m fault`. What to do when a message
puzzles you: `docs/troubleshooting.md`.

| failure | injected | what happens | lost | test |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One injection. test: "tests/faults/test_signals.py::test_…". slow: whether `make test` leaves it out."""

    failure: str
    injected: str
    handled: str
    lost: str
    test: str
    slow: bool = False


def rows(tests: Path = ROOT / "tests") -> list[Row]:
    """Every marked injection below `tests`, in the order of FAILURES and of files. ValueError for a marker that cannot be read."""
    found = [row for path in sorted(tests.rglob("*.py")) for row in _rows_of(path)]
    unknown = sorted({f"{row.failure} ({row.test})" for row in found if row.failure not in FAILURES})
    if unknown:
        raise ValueError(f"not in FAILURES of tests/faults/table.py: {', '.join(unknown)}")
    return sorted(found, key=lambda row: FAILURES.index(row.failure))


def page(found: list[Row]) -> str:
    """The table as Markdown; what the slow tests inject stays out."""
    lines, before = [], ""
    for row in (row for row in found if not row.slow):
        file, _, name = row.test.partition("::")
        title = f"**{row.failure}**" if row.failure != before else ""
        cells = (title, row.injected, row.handled, row.lost, f"[{name.removeprefix('test_').replace('_', ' ')}](../{file})")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
        before = row.failure
    return BEFORE + "".join(lines)


def _rows_of(path: Path) -> Iterator[Row]:
    source = path.read_text(encoding="utf-8")
    if "mark.fault(" not in source:
        return
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            marks = [mark for mark in node.decorator_list if isinstance(mark, ast.Call)]
            slow = any(ast.unparse(mark).startswith("pytest.mark.slow") for mark in node.decorator_list)
            for mark in reversed(marks):
                if ast.unparse(mark.func) == "pytest.mark.fault":
                    yield _row(mark, f"{name}::{node.name}", slow)


def _row(mark: ast.Call, test: str, slow: bool) -> Row:
    try:
        (failure,) = (ast.literal_eval(value) for value in mark.args)
        told = {str(word.arg): ast.literal_eval(word.value) for word in mark.keywords}
        return Row(failure, told["injected"], told["handled"], told["lost"], test, slow)
    except (ValueError, KeyError) as error:
        raise ValueError(f'{test}: write @pytest.mark.fault("class", injected="…", handled="…", lost="…"), plain texts ({error})') from None


if __name__ == "__main__":
    PAGE.write_text(page(rows()), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(rows())} injections of {len({row.failure for row in rows()})} failures")
