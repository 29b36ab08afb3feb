"""What a training step costs through the engine, over the bare model with torch's AdamW and clip_grad_norm_.

One process, fp32, equal weights, batches and losses. The two take turns, so that a machine that grows slower or faster
meanwhile does so for both; of each pair of steps the ratio is taken, and of those the median and the quartiles.

    python -m benchmarks.engine_overhead                                 # model small, on the GPU where there is one
    python -m benchmarks.engine_overhead --model tiny --rows 32 --steps 60
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

from conf.compose import compose
from parallel.topology import Topology, start, stop
from train.config import Config

TARGET = 1.05  # for the median ratio, at most
UNCOUNTED = 3  # first pairs of steps: odd, so that the engine's is the first of all and sets what megatron-core scales by


def main() -> None:
    """Measures, and prints one line for a person and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="a choice of conf/model")
    parser.add_argument("--rows", type=int, default=2, help="pages in a micro-batch")
    parser.add_argument("--micro-batches", type=int, default=1, help="in a step")
    parser.add_argument("--steps", type=int, default=20, help="pairs of steps that are measured")
    options = parser.parse_args()
    config: Config = compose("config", Config, [f"model={options.model}", "stage=pretrain", "stage.frozen=[]"])
    start(Topology(), seed=0)
    try:
        batches = pages(config, options.rows, options.micro_batches)
        report(options, *measured([bare(config, batches), through_engine(config, batches)], options.steps))
    finally:
        stop()


def measured(steps: Sequence[Callable[[], None]], pairs: int) -> list[list[float]]:
    """Seconds of every call of each of `steps`, which take turns, and turns in beginning."""
    import torch

    seconds: list[list[float]] = [[] for _ in steps]
    for pair in range(-UNCOUNTED, pairs):
        for which in reversed(range(len(steps))) if pair % 2 else range(len(steps)):
            began = time.perf_counter()
            steps[which]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if pair >= 0:
                seconds[which].append(time.perf_counter() - began)
    return seconds


def bare(config: Config, batches: Sequence) -> Callable[[], None]:
    """A step as one would write it in torch alone."""
    import torch

    from train.optimizer import parameter_groups

    model, objective = model_and_objective(config)
    groups = [{key: group[key] for key in ("params", "weight_decay")} for group in parameter_groups(model, config.optim.weight_decay)]
    trained = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(
        groups, lr=config.optim.lr, betas=tuple(config.optim.betas), eps=config.optim.eps, fused=True
    )
    model.train()

    def step() -> None:
        tokens = sum(batch.weights()["tokens"] for batch in batches)
        for batch in batches:
            objective(model, batch, {"tokens": tokens, "cells": 1.0}).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.engine.clip)
        optimizer.step()
        optimizer.zero_grad()

    return step


def through_engine(config: Config, batches: Sequence) -> Callable[[], None]:
    """A step as the training loop makes it."""
    from parallel.engine import Engine
    from train.optimizer import adamw, parameter_groups
    from train.parts import options_of

    model, objective = model_and_objective(config)
    groups = parameter_groups(model, config.optim.weight_decay)
    engine = Engine(model, groups, adamw(config.optim), objective, Topology(), options_of(config))
    engine.set_learning_rate(config.optim.lr)
    return lambda: engine.train_step(batches) and None


def model_and_objective(config: Config) -> tuple:
    """The same fresh weights at each call; next-token loss alone."""
    from data_pipeline.tokenizer import load_tokenizer
    from parallel.device import device
    from train.model.optical import build
    from train.objective import NextToken
    from train.parameters import freeze_idle_heads

    image = load_tokenizer(config.data.tokenizer).image
    model, objective = build(config.model, image, config.parallel, device=device(), seed=0), NextToken()
    freeze_idle_heads(model, objective)
    return model, objective


def pages(config: Config, rows: int, count: int, letters: int = 400) -> list:
    """`count` micro-batches of `rows` pages of noise with random letters, as many as there is room for."""
    import numpy as np

    from data_pipeline.batch import Collator
    from data_pipeline.record import Record
    from data_pipeline.resolution import mode_of
    from data_pipeline.tokenizer import load_tokenizer
    from parallel.device import device
    from train.parts import batch_spec

    generator, size = np.random.default_rng(0), mode_of(config.data.modes[0]).size
    collator = Collator(load_tokenizer(config.data.tokenizer), batch_spec(config))
    letters = min(letters, config.data.max_length // 2)

    def record(index: int) -> Record:
        text = bytes(generator.integers(97, 123, letters).tolist()).decode()
        page = generator.integers(0, 256, (size, size), dtype=np.uint8)
        return Record(f"{index}", "text", "", text, "en", "Latn", "noise", "CC0", index, pages=(page,))

    cut = [[record(rows * part + row) for row in range(rows)] for part in range(count)]
    return [collator(records, ["noise"] * rows).to(device()) for records in cut]


def report(options: argparse.Namespace, bare_seconds: list[float], engine_seconds: list[float]) -> None:
    """Prints the ratio with its spread, and what it was measured on."""
    import torch

    from train.stage import device_name

    ratios = [ours / theirs for ours, theirs in zip(engine_seconds, bare_seconds, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    seconds = statistics.median(bare_seconds)
    print(
        f"engine / bare: {middle:.3f} (quartiles {low:.3f} to {high:.3f}, {len(ratios)} pairs of steps of {seconds:.3f} s; "
        f"target {TARGET}), model {options.model}, {options.micro_batches} x {options.rows} pages, {device_name()}"
    )
    figures = {"ratio": middle, "quartiles": [low, high], "bare_seconds": seconds, "torch": torch.__version__, **vars(options)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
