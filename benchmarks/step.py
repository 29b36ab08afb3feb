"""Our training step against transformers' `unlimited_ocr` with torch's AdamW and clip_grad_norm_.

The same weights, pages, labels and loss (next token alone), one process. The two take turns, so that a machine that grows
slower or faster meanwhile does so for both; of each pair of steps the ratio is taken. A large matrix product, timed between
them, says what the cores (or the GPU) could do at best. Peak memory is that of two child processes, above what their imports
take. On a GPU: bf16, and frozen parts count as they are computed, forward only.

    python -m benchmarks.step                                 # model small, 2 pages a step
    OMP_NUM_THREADS=1 python -m benchmarks.step --model tiny --rows 32 --steps 60
    python -m benchmarks.step --frozen                        # windowed branch and compressor as in the paper's second stage
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.engine_overhead import measured
from benchmarks.trainers import Trainer, ceiling, configured, memory_of, start_alone, trainer

TARGETS = {"tiny": 2.0, "small": 1.2}  # steps of ours in the time of one of theirs, at least
MEMORY_TARGET = 0.7  # peak of ours over peak of theirs, at most
CHECKED = 5  # first steps, whose losses must be the same; later ones drift apart as rounding adds up
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}  # relative


def main() -> None:
    """Measures, and prints a few lines for a person and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="a choice of conf/model")
    parser.add_argument("--rows", type=int, default=2, help="pages in a step")
    parser.add_argument("--steps", type=int, default=20, help="pairs of steps that are measured")
    parser.add_argument("--frozen", action="store_true", help="freeze what conf/stage/pretrain.yaml freezes")
    parser.add_argument("--memory-of", choices=["ours", "theirs", "both", "none"], default="both", help="whose peak memory to measure; with a name, nothing else is done")
    options = parser.parse_args()
    config = configured(options.model, options.frozen)
    if options.memory_of in ("ours", "theirs"):
        print(json.dumps(memory_of(options.memory_of, config, options.rows)))
        return
    with start_alone():
        ours, theirs = (trainer(name, config, options.rows) for name in ("ours", "theirs"))
        top = ceiling(config.engine.precision)
        mine, others, best = measured([ours.step, theirs.step, top.step], options.steps)
        checked(ours.losses, theirs.losses, TOLERANCE[config.engine.precision])
        flops = [ours.flops(), theirs.flops()]
    figures = summary(ours, mine, others, flops, top.work / statistics.median(best))
    if options.memory_of == "both":
        figures["memory"] = {name: child(name) for name in ("ours", "theirs")}
        figures["memory_ratio"] = figures["memory"]["ours"] / figures["memory"]["theirs"]
    report(options, figures)


def checked(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> None:
    """Exits where the two did not compute the same thing."""
    for number, (mine, other) in enumerate(list(zip(ours, theirs))[:CHECKED]):
        if not abs(mine - other) <= tolerance * abs(other):
            sys.exit(f"step {number}: our loss is {mine}, theirs {other}; the two are not the same model")


def summary(
    ours: Trainer, mine: Sequence[float], others: Sequence[float], flops: Sequence[float], top: float
) -> dict:
    """The figures of a run, in seconds, FLOPs and their ratios."""
    import torch

    from train.stage import device_name

    seconds = [statistics.median(mine), statistics.median(others)]
    low, middle, high = statistics.quantiles([other / own for own, other in zip(mine, others)], n=4)
    return {
        "ratio": middle,
        "quartiles": [low, high],
        "steps_per_second": [1 / each for each in seconds],
        "tokens_per_second": ours.tokens / seconds[0],
        "teraflop": [each / 1e12 for each in flops],
        "ceiling_teraflops": top / 1e12,
        "share_of_ceiling": [work / each / top for work, each in zip(flops, seconds)],
        "losses": [ours.losses[0], ours.losses[-1]],
        "device": device_name(),
        "torch": torch.__version__,
    }


def child(name: str) -> float:
    """Peak bytes of one of the two, alone in a process."""
    command = [sys.executable, "-m", "benchmarks.step", *sys.argv[1:], "--memory-of", name]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(told.splitlines()[-1]))


def report(options: argparse.Namespace, figures: dict) -> None:
    """Prints what was found, and what it was measured on."""
    low, high = figures["quartiles"]
    rates, shares = figures["steps_per_second"], figures["share_of_ceiling"]
    target = TARGETS.get(options.model)
    print(
        f"{rates[0]:.3f} steps/s, transformers {rates[1]:.3f}: {figures['ratio']:.3f} times as fast (quartiles {low:.3f} to "
        f"{high:.3f}, {options.steps} pairs{f'; target {target}' if target else ''}), {figures['tokens_per_second']:.0f} tokens/s"
    )
    print(
        f"of {figures['ceiling_teraflops']:.3f} TFLOP/s of a large matrix product: {shares[0]:.0%}, transformers {shares[1]:.0%}"
    )
    if "memory" in figures:
        mine, other = (figures["memory"][name] / 2**20 for name in ("ours", "theirs"))
        print(f"peak memory {mine:.0f} MiB, transformers {other:.0f} MiB: {figures['memory_ratio']:.3f} (target {MEMORY_TARGET})")
    print(f"model {options.model}, {options.rows} pages a step, {figures['device']}")
    print(json.dumps({**vars(options), **figures}))


if __name__ == "__main__":
    main()
