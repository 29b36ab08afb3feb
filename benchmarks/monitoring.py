"""What all that looks at a run costs: a step of a stage with every observer, metrics.jsonl and wandb offline, over one with nothing.

Each is a stage in a process of its own, as `python -m train` runs it, on the same pages. They take turns, so that a machine that
grows slower or faster meanwhile does so for both. What is compared is processor time: it is what is spent, whoever else is on the
machine. As looks are taken now and then (`logger.details_every`), the steps of whole rounds of them are added up. The parts are
timed one by one as well, which is more exact than a difference of two large numbers.

    python -m benchmarks.monitoring                           # model small, 2 pages a step, 50 pairs of steps
    OMP_NUM_THREADS=1 python -m benchmarks.monitoring --model tiny --rows 8
"""

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.turns import Turn

TARGET = 1.01  # steps with everything over steps with nothing, at most
ROUND = 50  # steps after which the looks repeat: `logger.details_every` is the rarest
UNCOUNTED = 4  # first pairs of steps
NAMES = ("on", "off")
SHARDS = 32  # pages of each shard set


def main() -> None:
    """Measures, and prints a few lines for a person and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="a choice of conf/model")
    parser.add_argument("--rows", type=int, default=2, help="pages in a step")
    parser.add_argument("--rounds", type=int, default=1, help=f"of {ROUND} pairs of steps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build_pages(options.model, Path(folder) / "pages")
        report(options, measured(options, folder))


def build_pages(model: str, folder: Path) -> None:
    """Pages of the model's size, as the smoke corpus has them."""
    from conf.compose import compose
    from data_pipeline.build import build
    from data_pipeline.config import BuildConfig, CorpusConfig, PageConfig
    from train.config import Config

    encoder = compose("config", Config, [f"model={model}"]).model.encoder
    corpus = CorpusConfig(
        held_out=["persuasion"], language="en", pages=SHARDS, held_out_pages=4, held_out_random_pages=4, shard_pages=SHARDS,
        prompt="", page=PageConfig(size=encoder.image_size, patch=encoder.patch),
    )  # fmt: skip
    build(BuildConfig(corpus=corpus, out=str(folder), workers=1))


def measured(options: argparse.Namespace, folder: str) -> list[list[dict[str, Any]]]:
    """What each process told of each counted step."""
    arguments = ["--pages", f"{folder}/pages", "--folder", folder, "--model", options.model, "--rows", str(options.rows)]
    answers: list[list[dict[str, Any]]] = [[], []]
    with ExitStack() as stack:
        both = [stack.enter_context(Turn("benchmarks.monitored", [name, *arguments])) for name in NAMES]
        for pair in range(UNCOUNTED + ROUND * options.rounds):
            for which in (0, 1) if pair % 2 else (1, 0):
                answers[which].append(both[which].ask("step"))
    return [told[UNCOUNTED:] for told in answers]


def report(options: argparse.Namespace, answers: list[list[dict[str, Any]]]) -> None:
    """Prints what was found."""
    on, off = ([told["seconds"] for told in one] for one in answers)
    ratio, each = sum(on) / sum(off), sum(off) / len(off)
    low, middle, high = statistics.quantiles([ours / bare for ours, bare in zip(on, off, strict=True)], n=4)
    beside = (answers[0][-1]["beside"] - answers[0][0]["beside"]) / (len(on) - 1)
    names = {name for told in answers[0] for name in told["parts"]}
    parts = {name: sum(told["parts"].get(name, 0.0) for told in answers[0]) / len(on) for name in names}
    share = sum(parts.values()) / each
    print(
        f"with everything / with nothing: {ratio:.4f} in processor time (target {TARGET}; of pairs {low:.3f} to {high:.3f}, median "
        f"{middle:.3f}), {len(on)} pairs of steps of {each:.3f} s"
    )
    print(f"timed by themselves, the parts take {1e3 * sum(parts.values()):.2f} ms a step, {share:.2%}:")
    for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"  {1e3 * seconds:8.3f} ms  {seconds / each:7.3%}  {name}")
    print(f"  {1e3 * beside:8.3f} ms  {beside / each:7.3%}  in processes of wandb, beside the step")
    print(f"model {options.model}, {options.rows} pages a step")
    figures = {"ratio": ratio, "quartiles": [low, middle, high], "seconds": each, "parts": parts, "share": share, "beside": beside}
    print(json.dumps({**vars(options), **figures}))


if __name__ == "__main__":
    main()
