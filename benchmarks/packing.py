"""Rows that hold several samples against rows of one sample each, filled up to the longest of their micro-batch.

The same samples and weights, as many micro-batches a step: pages with texts of any length, and texts without a page, as long
as a row at most. Each kind of row in a process of its own; they take turns, so that a machine that grows slower or faster
meanwhile does so for both; of each pair of steps the ratio is taken. The losses must be the same.

    OMP_NUM_THREADS=1 python -m benchmarks.packing                  # model small
    OMP_NUM_THREADS=1 python -m benchmarks.packing --frozen         # windowed branch and compressor do not learn
    OMP_NUM_THREADS=1 python -m benchmarks.packing --pages 0        # texts alone: what the decoder gains
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

from benchmarks.step import check, surroundings
from benchmarks.turns import Turn, serve

NAMES = ("packed", "padded")
UNCOUNTED = 2  # first pairs of steps
SHORTEST = 16  # characters of a text


def main() -> None:
    """Measures and prints; or, named as one of the two, makes steps when the parent asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="small", help="a choice of conf/model")
    parser.add_argument("--samples", type=int, default=16, help="in a step")
    parser.add_argument("--pages", type=float, default=0.9, help="share of the samples that have a page")
    parser.add_argument("--steps", type=int, default=6, help="pairs of steps that are measured")
    parser.add_argument("--frozen", action="store_true", help="freeze what conf/stage/pretrain.yaml freezes")
    options = parser.parse_args()
    if options.name:
        answer(options)
    else:
        report(options, measured(options))


def measured(options: argparse.Namespace) -> dict:
    """The figures of a run: seconds of a step, their ratio, labelled tokens a second, share of positions that hold something."""
    arguments = ["--model", options.model, "--samples", str(options.samples), "--pages", str(options.pages)]
    arguments += ["--frozen"] if options.frozen else []
    answers: list[list[dict]] = [[], []]
    with ExitStack() as stack:
        both = [stack.enter_context(Turn("benchmarks.packing", [name, *arguments])) for name in NAMES]
        for pair in range(UNCOUNTED + options.steps):
            for which in (0, 1) if pair % 2 else (1, 0):
                answers[which].append(both[which].ask("step"))
        shapes = [one.ask("shape") for one in both]
    check(*([answer["loss"] for answer in given] for given in answers))
    seconds = [[answer["seconds"] for answer in given[UNCOUNTED:]] for given in answers]
    low, middle, high = statistics.quantiles([padded / packed for packed, padded in zip(*seconds)], n=4)
    return {
        "ratio": middle,
        "quartiles": [low, high],
        "seconds": [statistics.median(given) for given in seconds],
        "tokens_per_second": [
            shape["tokens"] / statistics.median(given) for shape, given in zip(shapes, seconds)
        ],
        "fill": [shape["filled"] / shape["positions"] for shape in shapes],
        "micro_batches": shapes[0]["micro_batches"],
        **surroundings(),
    }


def report(options: argparse.Namespace, figures: dict) -> None:
    """Prints what was found, and one line of JSON."""
    (packed, padded), (full, less), (low, high) = (
        figures["tokens_per_second"],
        figures["fill"],
        figures["quartiles"],
    )
    print(
        f"{packed:.0f} tokens/s in packed rows ({full:.1%} full), {padded:.0f} in padded ones ({less:.1%}): "
        f"{figures['ratio']:.2f} times as fast (quartiles {low:.2f} to {high:.2f}, {options.steps} pairs of steps)"
    )
    print(
        f"model {options.model}, {options.samples} samples in {figures['micro_batches']} micro-batches, {figures['device']}"
    )
    print(json.dumps({**vars(options), **figures}))


def answer(options: argparse.Namespace) -> None:
    """Makes steps on one kind of rows whenever the parent asks."""
    from benchmarks.trainers import configured, started, synchronize
    from parallel.device import device

    config = configured(options.model, options.frozen)
    with started():
        batches = [batch.to(device()) for batch in micro_batches(config, options)]
        step = training_step(config, batches)

        def timed() -> dict[str, float]:
            began = time.perf_counter()
            loss = step()
            synchronize()
            return {"seconds": time.perf_counter() - began, "loss": loss}

        def shape() -> dict[str, float]:
            return {
                "tokens": sum(batch.weights()["tokens"] for batch in batches),
                "filled": sum(int((~batch.padding).sum()) for batch in batches),
                "positions": sum(batch.tokens.numel() for batch in batches),
                "micro_batches": len(batches),
            }

        serve({"step": timed, "shape": shape})


def micro_batches(config: Any, options: argparse.Namespace) -> list[Any]:
    """A packed row each; or as many micro-batches of the same samples, in the order in which they came, a row each."""
    from data_pipeline.batch import Collator
    from data_pipeline.packing import packed
    from data_pipeline.tokenizer import load_tokenizer
    from train.parts import batch_spec

    collator = Collator(load_tokenizer(config.data.tokenizer), batch_spec(config))
    samples = [collator.sample(record(config, options.pages, number)) for number in range(options.samples)]
    lengths = [len(sample.ids) for sample in samples]
    rows = packed(
        lengths, [len(sample.record.pages) for sample in samples], config.data.max_length, len(samples)
    )
    if options.name == "packed":
        return [
            collator.packed([[samples[number] for number in row]], [["noise"] * len(row)]) for row in rows
        ]
    cuts = [round(part * len(samples) / len(rows)) for part in range(len(rows) + 1)]
    parts = [samples[first:last] for first, last in pairwise(cuts)]
    return [collator.rows([[sample] for sample in part], [["noise"]] * len(part)) for part in parts]


def record(config: Any, pages: float, number: int) -> Any:
    """A page of noise with random letters, up to half a row of them; or letters alone, up to a row. Short ones are as
    frequent as long ones on a scale of powers.
    """
    import numpy as np

    from data_pipeline.record import Record
    from data_pipeline.resolution import mode_of

    generator, size = np.random.default_rng(number), mode_of(config.data.modes[0]).size
    has_page = round((number + 1) * pages) > round(number * pages)
    longest = config.data.max_length // (2 if has_page else 1)
    letters = int(np.exp(generator.uniform(np.log(SHORTEST), np.log(longest))))
    text = bytes(generator.integers(97, 123, letters).tolist()).decode()
    page = generator.integers(0, 256, (size, size), dtype=np.uint8)
    return Record(
        f"{number}",
        "text",
        "",
        text,
        "en",
        "Latn",
        "noise",
        "CC0-1.0",
        number,
        pages=(page,) if has_page else (),
    )


def training_step(config: Any, batches: list[Any]) -> Callable[[], float]:
    """A step as the training loop makes it; returns the loss."""
    from data_pipeline.tokenizer import load_tokenizer
    from parallel.device import device
    from parallel.engine import Engine
    from parallel.topology import Topology
    from train.model.optical import build
    from train.objective import NextToken
    from train.optimizer import adamw, parameter_groups
    from train.parameters import freeze
    from train.parts import options_of

    image = load_tokenizer(config.data.tokenizer).image
    precision = config.engine.precision
    model = build(config.model, image, config.parallel, precision=precision, device=device(), seed=0)
    freeze(model, config.stage.frozen)
    groups = parameter_groups(model, config.optim.weight_decay)
    engine = Engine(model, groups, adamw(config.optim), NextToken(), Topology(), options_of(config))
    engine.set_learning_rate(config.optim.lr)
    return lambda: engine.train_step(batches).loss


if __name__ == "__main__":
    main()
