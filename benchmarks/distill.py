"""Does a teacher that sees many vision tokens help a student that sees few? The same student, taught and alone, at equal steps.

    OMP_NUM_THREADS=1 python -m benchmarks.distill --out runs/distill --jobs 2

The pages: novels, 12 bytes a page of 64 pixels. The teacher learns to read them in 4 vision tokens, until it has. Every student
begins with the teacher's weights, sees a page in one vision token (32 pixels), and differs from the others of its seed in nothing
but the teacher: none (alone), its predictions (taught, `distill=logits`), and what it sees as well (`distill=features`). What is
compared is held-out cross-entropy, accuracy and image gain after the last step, as `metrics.jsonl` has them. Writes distill.json
and distill.png; the same command goes on with what is missing.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FIGURES = ("cross_entropy", "accuracy", "image_gain")
KINDS = {"alone": "distill=none", "taught": "distill=logits", "features": "distill=features"}
SOURCE = "ratio-3"


def main(argv: Sequence[str] | None = None) -> int:
    """Builds, trains, compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/distill"), help="folder of pages, runs and results")
    parser.add_argument("--pages", type=int, default=12000)
    parser.add_argument("--teacher-steps", type=int, default=1500)
    parser.add_argument("--student-steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="students that train side by side")
    parser.add_argument("--override", action="append", default=[], help="of every run, such as optim.lr=2e-3")
    asked = parser.parse_args(argv)
    out: Path = asked.out
    if not (out / "pages" / "held_out" / SOURCE / "manifest.json").is_file():
        start(build(asked))
    start(teacher(asked))
    students = [(seed, kind) for seed in range(asked.seeds) for kind in KINDS]
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(lambda one: start(student(asked, *one)), students))
    found = {f"{kind}-{seed}": last(out / f"{kind}-{seed}") for seed, kind in students}
    found["teacher"] = last(out / "teacher")
    result = {"settings": {key: str(value) for key, value in vars(asked).items() if key not in ("out", "jobs")}, "runs": found,
              "summary": summary(found, asked.seeds)}  # fmt: skip
    (out / "distill.json").write_text(json.dumps(result, indent=1))
    draw(out, asked.seeds)
    print(table(result))
    return 0


def build(asked: argparse.Namespace) -> list[str]:
    """The command that makes the pages."""
    return [
        "data_pipeline.build", "corpus=smoke", f"out={asked.out}/pages", "corpus.ratios=[3]", f"corpus.pages={asked.pages}",
        "corpus.held_out_pages=256", "corpus.held_out_random_pages=64", "corpus.random_text=0.2", "corpus.max_refused=0.3",
    ]  # fmt: skip


def common(asked: argparse.Namespace) -> list[str]:
    """Of every run."""
    pages = f"{asked.out}/pages"
    without = [f"~data.{group}.ratio-{ratio}" for group in ("train", "held_out", "floor") for ratio in (4, 8)]
    return [
        "train", "model=tiny", "data=smoke", *without, f"data.root={pages}", f"+data.train.{SOURCE}.path={pages}/train/{SOURCE}",
        f"+data.held_out.{SOURCE}.path={pages}/held_out/{SOURCE}", "data.global_batch=32", "data.micro_batch=32",
        "stage.evaluation_pages=256", f"run.directory={asked.out}", "logger.console_every=100", *asked.override,
    ]  # fmt: skip


def teacher(asked: argparse.Namespace) -> list[str]:
    """The command that trains the teacher."""
    return [
        *common(asked), "stage=encoder", "run.name=teacher", f"stage.steps={asked.teacher_steps}", "optim.lr=4.0e-3",
        "stage.objective.input_noise=0.15", "stage.checkpoint_every=250", "stage.evaluate_every=250",
    ]  # fmt: skip


def student(asked: argparse.Namespace, seed: int, kind: str) -> list[str]:
    """The command that trains a student; all kinds of a seed read the same pages in the same order."""
    taught = [f"distill.teacher={asked.out}/teacher", "distill.teacher_modes=['64']"] if kind != "alone" else []
    return [
        *common(asked), "stage=distill", KINDS[kind], *taught, f"run.name={kind}-{seed}", f"seed={seed}", "data.modes=['32']",
        f"stage.start_from={asked.out}/teacher", f"stage.steps={asked.student_steps}", "optim.lr=2.0e-3", "optim.warmup_steps=20",
        "stage.objective.input_noise=0.15", "stage.checkpoint_every=1000", "stage.evaluate_every=50",
    ]  # fmt: skip


def start(arguments: list[str]) -> None:
    """Runs a command of ours; a run that is finished returns at once."""
    subprocess.run([sys.executable, "-m", *arguments], check=True, stdout=subprocess.DEVNULL)


def evaluations(run: Path) -> list[dict[str, Any]]:
    """What a run measured on held-out pages, in the order of its steps."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if f"accuracy/{SOURCE}" in row]


def last(run: Path) -> dict[str, float]:
    """Its last figures."""
    row = evaluations(run)[-1]
    return {name: row[f"{name}/{SOURCE}"] for name in FIGURES} | {"step": row["step"]}


def summary(found: dict[str, dict[str, float]], seeds: int) -> dict[str, Any]:
    """Of each figure: mean of each kind, and what each differs by from alone, seed by seed."""
    result = {}
    for name in FIGURES:
        of_kind = {kind: [found[f"{kind}-{seed}"][name] for seed in range(seeds)] for kind in KINDS}
        result[name] = {kind: sum(values) / seeds for kind, values in of_kind.items()} | {
            f"{kind} − alone": [one - alone for one, alone in zip(values, of_kind["alone"])]
            for kind, values in of_kind.items()
            if kind != "alone"
        }
    return result


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| student of one vision token | " + " | ".join(FIGURES) + " |", "|---|" + "---|" * len(FIGURES)]
    for name, row in sorted(result["runs"].items()):
        lines.append(f"| {name} (step {row['step']:.0f}) | " + " | ".join(f"{row[figure]:.3f}" for figure in FIGURES) + " |")
    for kind in KINDS:
        if kind != "alone":
            found = (result["summary"][name][f"{kind} − alone"] for name in FIGURES)
            told = [", ".join(f"{value:+.3f}" for value in values) for values in found]
            lines.append(f"| {kind} − alone, by seed | " + " | ".join(told) + " |")
    return "\n".join(lines)


def draw(out: Path, seeds: int) -> None:
    """distill.png: held-out cross-entropy and accuracy over steps, a line a run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for axis, name in zip(axes, FIGURES):
        for kind, colour in zip(KINDS, ("tab:gray", "tab:blue", "tab:orange")):
            for seed in range(seeds):
                rows = evaluations(out / f"{kind}-{seed}")
                values = [row[f"{name}/{SOURCE}"] for row in rows]
                axis.plot([row["step"] for row in rows], values, color=colour, label=kind if seed == 0 else None)
        level = last(out / "teacher")[name]
        axis.axhline(level, color="black", linestyle=":", label="teacher, 4 vision tokens")
        axis.set_xlabel("steps of the student, 32 pages each")
        axis.set_title(f"{name.replace('_', ' ')}, held out" + (", nats a token" if name == "cross_entropy" else ""))
    axes[0].legend()
    figure.suptitle("Students that see a page in one vision token: alone, with the predictions of a teacher of four, and with its features")
    figure.tight_layout()
    figure.savefig(out / "distill.png", dpi=130)


if __name__ == "__main__":
    sys.exit(main())
