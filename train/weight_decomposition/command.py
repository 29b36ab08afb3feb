"""What the command does once its settings are sound."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from train.report.decomposition import movements_of
from train.report.movement import KINDS, Movement, signed
from train.report.run import read_run
from train.report.scatter_png import write_scatter
from train.run_folder import plain, write_json

PAPER = {
    "full": -0.62,
    "lora": 0.83,
    "dora": -0.31,
}  # figure 2 of arXiv 2402.09353: a vision-language model, queries and values


def compare(seeds: int, out: Path) -> int:
    """The controlled comparison: prints its correlations, draws it, and returns 1 where a sign of any seed is another one."""
    from train.weight_decomposition.controlled import LAYERS, LOOKS, RANK, SIGNS, STEPS, WIDTH, fitted

    found = {kind: [Movement(KINDS[kind], fitted(kind, seed)) for seed in range(seeds)] for kind in SIGNS}
    pooled = {kind: [one.correlations()["pooled"] for one in movements] for kind, movements in found.items()}
    right = all((value or 0.0) * SIGNS[kind] > 0 for kind, values in pooled.items() for value in values)
    screen, table = Console(), Table(title="Change of magnitude against change of direction: correlation")
    for column in (
        "tuning",
        *(f"seed {seed}" for seed in range(seeds)),
        "in the paper",
        "mean squared error",
    ):
        table.add_column(column, justify="left" if column == "tuning" else "right")
    for kind, movements in found.items():
        errors = [row["error"] for one in movements for row in one.rows if row["step"] == STEPS]
        table.add_row(
            KINDS[kind], *map(signed, pooled[kind]), signed(PAPER[kind]), f"{sum(errors) / len(errors):.1e}"
        )
    screen.print(table)
    screen.print(f"Signs −, +, −: {'as expected' if right else 'did not come out'}.")
    note = (
        f"{LAYERS} layers of {WIDTH} x {WIDTH}, {seeds} seeds, {STEPS} steps, looked at {LOOKS} times; factors of rank {RANK}. The task is "
        "made so that the mechanism shows:\nLoRA cannot change magnitudes without directions. It is no evidence that every fine-tuning "
        "shows these signs."
    )
    together = [Movement(KINDS[kind], _in_steps(movements)) for kind, movements in found.items()]
    _write(
        out,
        "Controlled comparison",
        note,
        together,
        {"correlations": pooled, "signs": SIGNS, "as_expected": right},
        screen,
    )
    return 0 if right else 1


def show(runs: list[str], out: Path) -> int:
    """The rows of real runs beside each other; reports, and judges nothing."""
    read = [read_run(Path(name)) for name in runs]
    movements = [
        replace(movement, label=f"{run.name} {movement.label}") if len(run.stages) > 1 else movement
        for run in read
        for movement in movements_of(run)
    ]
    screen, table = Console(), Table(title="Change of magnitude against change of direction: correlation")
    for column in ("run", "all looks", "last look", "between rows, last look"):
        table.add_column(column, justify="left" if column == "run" else "right")
    for movement in movements:
        told = movement.correlations()
        values = (told["pooled"], list(told["by_step"].values())[-1], told["by_row"])
        table.add_row(movement.label, *map(signed, values))
    screen.print(table)
    note = "A point is one weight at one look. Pooled over looks, both changes grow with time whatever trains: compare within one step."
    _write(out, "How weights moved", note, movements, {}, screen)
    return 0


def _in_steps(movements: list[Movement]) -> list[Any]:
    """The rows of all seeds, look by look."""
    return sorted((row for one in movements for row in one.rows), key=lambda row: row["step"])


def _write(
    out: Path, title: str, note: str, movements: list[Movement], facts: dict[str, Any], screen: Console
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_scatter(out / "figure.png", title, note, movements)
    write_json(
        out / "figure.json", plain({**facts, "series": [movement.to_json() for movement in movements]})
    )
    screen.print(f"{out / 'figure.png'} and {out / 'figure.json'} written", soft_wrap=True)
