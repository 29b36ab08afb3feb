"""Rounding after training against training with rounding, at equal steps, by bit width.

    OMP_NUM_THREADS=1 python -m benchmarks.quantize --checkpoint runs/smoke --data runs/smoke/pages --out runs/quantize

From one checkpoint a model trains on for `--steps` steps in floats, and is rounded then: to the nearest, by AWQ and by GPTQ with
training pages. Another trains for as many steps with rounding (stage=qat), one for each width, with the same pages, order, rate
and seed. All are measured as they are read: cross-entropy and image gain on held-out pages, and the precision of what they
read. Scales: one for each output at 8 bits, for groups of 32 inputs below. Every matrix of the decoder's layers is rounded, with
--encoder those of the encoder's blocks too. Writes quantize.json; the same command goes on with what is missing.
"""

import argparse
import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METHODS = ("nearest", "awq", "gptq")
DECODER = ("attention", "dense", "shared_experts", "experts")
FIGURES = ("cross_entropy", "image_gain", "accuracy", "precision")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, rounds, measures; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="runs/smoke", help="a run that reads")
    parser.add_argument(
        "--data", default="runs/smoke/pages", help="folder of `data_pipeline.build corpus=smoke`"
    )
    parser.add_argument("--source", default="ratio-4", help="the held-out set that is read")
    parser.add_argument("--out", type=Path, default=Path("runs/quantize"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--bits", default="8,4,3,2")
    parser.add_argument("--pages", type=int, default=128, help="that are read")
    parser.add_argument("--encoder", action="store_true")
    parser.add_argument(
        "--override", action="append", default=[], help="of every training, such as model=small"
    )
    asked = parser.parse_args(argv)
    runs = {"float": train(asked, "float", [])}
    for bits in asked.bits.split(","):
        options = rounding(asked, bits)
        for method in METHODS:
            runs[f"{method}-{bits}"] = rounded(
                asked, f"{method}-{bits}", [*options, f"method={method}"], runs["float"]
            )
        runs[f"qat-{bits}"] = train(asked, f"qat-{bits}", options)
    found = {name: measured(asked, folder) for name, folder in runs.items()}
    settings = {key: str(value) for key, value in vars(asked).items()}
    (asked.out / "quantize.json").write_text(json.dumps({"settings": settings, "runs": found}, indent=1))
    print(table(found, asked.bits.split(",")))
    print(json.dumps(found))
    return 0


def rounding(asked: argparse.Namespace, bits: str) -> list[str]:
    """The overrides of quantize= for a width."""
    targets = [*DECODER, "window", "global"] if asked.encoder else DECODER
    return [f"quantize=int{bits}", f"quantize.targets=[{','.join(targets)}]"]


def train(asked: argparse.Namespace, name: str, options: Sequence[str]) -> Path:
    """A run of `--steps` steps from the checkpoint, with rounding where `options` say so."""
    folder = asked.out / name
    status = folder / "status.json"
    if not (status.is_file() and json.loads(status.read_text()).get("state") == "finished"):
        start(
            "train", "stage=pretrain", "stage.frozen=[]", f"stage.start_from={asked.checkpoint}", "model=tiny", "data=smoke",
            f"data.root={asked.data}", "data.global_batch=32", "data.micro_batch=32", f"stage.steps={asked.steps}",
            "optim.lr=1e-3", f"optim.warmup_steps={asked.steps // 10}", "optim.final_fraction=0.05",
            f"stage.checkpoint_every={asked.steps}", f"stage.evaluate_every={asked.steps}", f"run.directory={asked.out}",
            f"run.name={name}", *options, *asked.override,
        )  # fmt: skip
    return folder


def rounded(asked: argparse.Namespace, name: str, options: Sequence[str], source: Path) -> Path:
    """A run with the rounded values of another one."""
    folder = asked.out / name
    if not (folder / "config.yaml").is_file():
        start("train.quantize", f"checkpoint={source}", f"to={folder}", *options)
    return folder


def measured(asked: argparse.Namespace, run: Path) -> dict[str, float]:
    """`FIGURES` of a run."""
    out = run / "evaluation"
    if not (out / "metrics.json").is_file():
        held_out = Path(asked.data) / "held_out" / asked.source
        start("train.evaluate", f"checkpoint={run}", f"data={held_out}", f"pages={asked.pages}", f"out={out}")
    read = json.loads((out / "metrics.json").read_text())
    (row,) = [row for row in read["curve"] if row["source"] == asked.source]
    return {"precision": row["precision"]} | looked_at(asked, run)


def looked_at(asked: argparse.Namespace, run: Path) -> dict[str, float]:
    """What a look at held-out pages finds, without generation."""
    from data_pipeline.batch import Collator
    from parallel.topology import Topology, start, stop
    from train.load import load_trained
    from train.probe import Probe

    start(Topology(), seed=0)
    trained = load_trained(run)
    held_out = {asked.source: Path(asked.data) / "held_out" / asked.source}
    found = Probe(trained.model, held_out, Collator(trained.tokenizer, trained.spec), 256, 32)()[asked.source]
    stop()
    return {name: found[name] for name in FIGURES if name in found}


def table(found: dict[str, dict[str, float]], widths: Sequence[str]) -> str:
    """Markdown: cross-entropy in nats a token, and precision, of each width and way."""
    ways = (*METHODS, "qat")
    plain = found["float"]
    lines = [
        f"in floats: cross-entropy {plain['cross_entropy']:.3f}, image gain {plain['image_gain']:.2f}, precision {plain['precision']:.3f}",
        "",
        "| bits | " + " | ".join(f"{way}: nats | precision" for way in ways) + " |",
        "|---" * (1 + 2 * len(ways)) + "|",
    ]
    for bits in widths:
        cells = [found[f"{way}-{bits}"] for way in ways]
        values = " | ".join(f"{cell['cross_entropy']:.3f} | {cell['precision']:.3f}" for cell in cells)
        lines.append(f"| {bits} | {values} |")
    return "\n".join(lines)


def start(module: str, *options: Any) -> None:
    """Runs one of our commands in this process, which has everything loaded. Raises SystemExit where it fails."""
    sys.argv = [module, *map(str, options)]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    sys.exit(main())
