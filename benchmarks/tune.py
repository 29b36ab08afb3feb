"""A step of DoRA against one of LoRA, and both against peft's, on the same linear layers.

The layers are those of one decoder layer of a model: attention and the dense feed-forward, one after the other on inputs of
their own, as a step of fine-tuning meets them: forward, backward to the inputs, AdamW on the factors. The weights are frozen and
shared by all four; ours begin with peft's factors, and after the first steps the outputs must be the same. In one process they take
turns, so that a machine that grows slower or faster meanwhile does so for all; of each round the ratios are taken, on a CPU of the
seconds that its cores worked (with OMP_NUM_THREADS=1 none of them is spent waiting). peft works out DoRA's norm in every forward,
ours once a step: with more micro-batches a step they part further.

    python -m benchmarks.tune
    OMP_NUM_THREADS=1 python -m benchmarks.tune --models deepseek_ocr_3b --tokens 1024 --precisions fp32 bf16 --rounds 20
    python -m benchmarks.tune --profile dora --models deepseek_ocr_3b --tokens 256     # where the time of our DoRA goes
"""

import argparse
import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.tuned_layers import Tuned, of_peft, ours, shapes_of
from parallel import cpu_settings

TARGETS = {"dora / lora": 1.1, "dora / peft's dora": 0.6}  # seconds of the one over those of the other, at most
UNCOUNTED = 2  # first rounds
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}  # of outputs after the first rounds, relative


def main() -> None:
    """Measures every combination, and prints a line for each, and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["small", "deepseek_ocr_3b"], help="choices of conf/model")
    parser.add_argument("--tokens", nargs="+", type=int, default=[256, 1024], help="in a micro-batch")
    parser.add_argument("--accumulate", nargs="+", type=int, default=[1, 4], help="micro-batches in a step")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=TOLERANCE, help="of frozen weights and inputs")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10, help="steps of each that are measured")
    parser.add_argument("--profile", choices=["lora", "dora"], help="in place of measuring: operations of our step, by time")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    cpu_settings.apply()  # for all four
    found = [
        one(options, *case)
        for case in itertools.product(options.models, options.precisions, options.tokens, options.accumulate)
    ]
    figures = {"rank": options.rank, "targets": TARGETS, "device": device_told(), "torch": torch.__version__, "cases": found}
    print(json.dumps(figures))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


def one(options: argparse.Namespace, model: str, precision: str, tokens: int, accumulate: int) -> dict:
    """The figures of one combination, in seconds and their ratios."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    torch.manual_seed(0)
    shapes = shapes_of(model)
    weights = [torch.randn(outputs, inputs, device=device, dtype=dtype) / inputs**0.5 for outputs, inputs in shapes]
    batch = [torch.randn(tokens, inputs, device=device, dtype=dtype) for _, inputs in shapes]
    gradients = [torch.randn(tokens, outputs, device=device, dtype=dtype) for outputs, _ in shapes]
    theirs = {kind: of_peft(kind, weights, options.rank) for kind in ("lora", "dora")}
    tuned = {kind: ours(kind, weights, options.rank, theirs[kind]) for kind in theirs}
    if options.profile:
        profile(lambda: step(tuned[options.profile], batch, gradients, accumulate))
        return {}
    several = {**tuned, **{f"peft's {kind}": layers for kind, layers in theirs.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in several}
    for number in range(UNCOUNTED + options.rounds):
        for name in sorted(several, reverse=bool(number % 2)):
            started = now()
            step(several[name], batch, gradients, accumulate)
            if number >= UNCOUNTED:
                seconds[name].append(now() - started)
        if number < UNCOUNTED:
            check(several, batch, TOLERANCE[precision])
    case = {"model": model, "precision": precision, "tokens": tokens, "accumulate": accumulate}
    return case | told(case, seconds)


def now() -> float:
    """Seconds: on a CPU those that its cores worked for this process, whoever else they worked for meanwhile."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def step(layers: Tuned, batch: list[torch.Tensor], gradients: list[torch.Tensor], accumulate: int) -> None:
    """One optimizer step, in which `gradients` come back from what follows the layers."""
    for _ in range(accumulate):
        inputs = [x.detach().requires_grad_() for x in batch]
        torch.autograd.backward([layer(x) for layer, x in zip(layers.modules, inputs)], gradients)
    layers.optimizer.step()
    layers.optimizer.zero_grad()
    layers.stepped()


@torch.no_grad()
def check(several: dict[str, Tuned], batch: list[torch.Tensor], tolerance: float) -> None:
    """Exits where ours and peft's do not compute the same."""
    for kind in ("lora", "dora"):
        pairs = zip(several[kind].modules, several[f"peft's {kind}"].modules, batch)
        for number, (mine, other, x) in enumerate(pairs):
            own, peer = mine(x), other(x)
            off = ((own - peer).float().norm() / peer.float().norm()).item()
            if not off <= tolerance:
                raise SystemExit(f"{kind}: outputs of layer {number} differ from peft's by {off:.1e} of their size")


def told(case: dict, seconds: dict[str, list[float]]) -> dict:
    """The ratios of each round, of which the median and quartiles are printed and returned."""
    ratios, parts = {}, []
    for one, other in (("dora", "lora"), ("dora", "peft's dora"), ("lora", "peft's lora")):
        name = f"{one} / {other}"
        rounds = [mine / peer for mine, peer in zip(seconds[one], seconds[other])]
        low, middle, high = statistics.quantiles(rounds, n=4)
        ratios[name] = [low, middle, high]
        target = f", target {TARGETS[name]}" if name in TARGETS else ""
        parts.append(f"{name} {middle:.3f} ({low:.3f} to {high:.3f}{target})")
    each = {name: statistics.median(values) for name, values in seconds.items()}
    print(" ".join(f"{name}={value}" for name, value in case.items()), "|", "; ".join(parts), flush=True)
    return {"seconds": each, "ratios": ratios}


def profile(work: Callable[[], object]) -> None:
    """Prints the operations that take longest."""
    for _ in range(UNCOUNTED):
        work()
    with torch.profiler.profile() as profiler:
        for _ in range(5):
            work()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=16, max_name_column_width=44))


def device_told() -> str:
    """The kind of device, without the machine's name."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, threads: {torch.get_num_threads()}"


if __name__ == "__main__":
    main()
