"""Our training step against transformers' `unlimited_ocr` with torch's AdamW and clip_grad_norm_.

The same weights, pages, labels and loss (next token alone), each in a process of its own, as `python -m train` would start
ours and a script of a few lines theirs. They take turns, so that a machine that grows slower or faster meanwhile does so for
both; of each pair of steps the ratio is taken. A product of large matrices says what the cores, or the GPU, could do at best
with our settings. Memory is the peak of either process above what its imports take. On a GPU: bf16; frozen parts count as
they are computed, forward only.

    python -m benchmarks.step                                 # model small, 2 pages a step
    OMP_NUM_THREADS=1 python -m benchmarks.step --model tiny --rows 32 --steps 60
    python -m benchmarks.step --frozen                        # windowed branch and compressor as in the paper's second stage
    python -m benchmarks.step --our-settings                  # theirs, too, gets our settings of torch (parallel/cpu_settings.py)
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.turns import Turn

TARGETS = {"tiny": 2.0, "small": 1.2}  # steps of ours in the time of one of theirs, at least
MEMORY_TARGET = 0.7  # peak of ours over peak of theirs, at most
UNCOUNTED = 3  # first pairs of steps
CHECKED = 5  # first steps, whose losses must be the same; later ones drift apart as rounding adds up
TOLERANCE = 1e-4  # relative; in bf16, on a GPU, 100 times as much
NAMES = ("ours", "theirs")


def main() -> None:
    """Measures, and prints a few lines for a person and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="a choice of conf/model")
    parser.add_argument("--rows", type=int, default=2, help="pages in a step")
    parser.add_argument("--steps", type=int, default=20, help="pairs of steps that are measured")
    parser.add_argument("--frozen", action="store_true", help="freeze what conf/stage/pretrain.yaml freezes")
    parser.add_argument("--our-settings", action="store_true", help="give theirs our settings of torch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options, f"{folder}/weights")
    report(options, figures)


def measured(options: argparse.Namespace, weights: str) -> dict:
    """The figures of a run, in seconds, bytes and FLOPs and their ratios."""
    arguments = ["--weights", weights, "--model", options.model, "--rows", str(options.rows)]
    arguments += [flag for flag, given in (("--frozen", options.frozen), ("--our-settings", options.our_settings)) if given]
    with ExitStack() as stack:
        # one after the other: theirs reads the weights that ours has written
        both = [stack.enter_context(Turn("benchmarks.trainers", [name, *arguments])) for name in NAMES]
        answers: list[list[dict]] = [[], []]
        for pair in range(UNCOUNTED + options.steps):
            for which in (0, 1) if pair % 2 else (1, 0):
                answers[which].append(both[which].ask("step"))
        memory = [one.ask("memory") for one in both]
        work, top = [one.ask("flops") for one in both], both[0].ask("ceiling")
        tokens = both[0].ask("tokens")
    losses = [[answer["loss"] for answer in given] for given in answers]
    check(*losses)
    seconds = [[answer["seconds"] for answer in given[UNCOUNTED:]] for given in answers]
    low, middle, high = statistics.quantiles([other / own for own, other in zip(*seconds)], n=4)
    each = [statistics.median(given) for given in seconds]
    return {
        "ratio": middle,
        "quartiles": [low, high],
        "seconds": each,
        "tokens_per_second": tokens / each[0],
        "gigaflop": [one / 1e9 for one in work],
        "ceiling_gigaflops": top / 1e9,
        "share_of_ceiling": [one / own / top for one, own in zip(work, each)],
        "memory_mib": [one / 2**20 for one in memory],
        "memory_ratio": memory[0] / memory[1],
        "losses": [losses[0][0], losses[0][-1]],
        **surroundings(),
    }


def check(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Exits where the two did not compute the same thing."""
    import torch

    tolerance = TOLERANCE * (100 if torch.cuda.is_available() else 1)
    for number, (mine, other) in enumerate(list(zip(ours, theirs))[:CHECKED]):
        if not abs(mine - other) <= tolerance * abs(other):
            sys.exit(f"step {number}: our loss is {mine}, theirs {other}; the two are not the same model")


def surroundings() -> dict[str, str]:
    """What it was measured on."""
    import torch

    from train.stage import device_name

    return {"device": device_name(), "torch": torch.__version__}


def report(options: argparse.Namespace, figures: dict) -> None:
    """Prints what was found."""
    target, (low, high) = TARGETS.get(options.model), figures["quartiles"]
    mine, other = figures["seconds"]
    print(
        f"{1 / mine:.3f} steps/s, transformers {1 / other:.3f}: {figures['ratio']:.3f} times as fast (quartiles {low:.3f} to "
        f"{high:.3f}, {options.steps} pairs{f'; target {target}' if target else ''}), {figures['tokens_per_second']:.0f} tokens/s"
    )
    shares, (own, peer) = figures["share_of_ceiling"], figures["memory_mib"]
    print(f"of {figures['ceiling_gigaflops']:.0f} GFLOP/s of a product of large matrices: {shares[0]:.0%}, transformers {shares[1]:.0%}")
    print(f"peak memory {own:.0f} MiB, transformers {peer:.0f} MiB: {figures['memory_ratio']:.3f} (target {MEMORY_TARGET})")
    print(f"model {options.model}, {options.rows} pages a step, {figures['device']}")
    print(json.dumps({**vars(options), **figures}))


if __name__ == "__main__":
    main()
