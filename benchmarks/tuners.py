"""What each way to fine-tune trains, keeps and costs, and how far it comes on the same task in the same steps.

A base learns Austen's prose, a page of noise before each passage; the tuners then meet the same prose in capitals, which it never
saw. They follow each other round by round, each from the base's weights. "state" are gradients and the optimizer's tensors, "kept"
is what a forward keeps for backward. A step's time is that of the processor, which others on the machine disturb least; with
OMP_NUM_THREADS=1 and nobody else it is the time on the clock. Losses are of held-out passages in capitals, in nats a byte.

    OMP_NUM_THREADS=1 python -m benchmarks.tuners                        # model tiny, 16 rows a step
    python -m benchmarks.tuners --tunes lora adapter --steps 200
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from conf.compose import compose
from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.record import Record
from data_pipeline.sources.austen import novels
from data_pipeline.tokenizer import byte_tokenizer
from parallel import topology
from parallel.engine import Engine, EngineOptions
from train.adapt.attach import add
from train.config import Config
from train.model.optical import build
from train.objective import NextToken
from train.optimizer import groups_of, optimizer_of
from train.parameters import counted
from train.transform.attach import attach

TUNES = ("full", "lora", "dora", "adapter", "prefix", "p_tuning_v2", "prompt", "p_tuning", "selective")
ROWS, BYTES, LENGTH = 16, 96, 256
UNCOUNTED = 3  # first steps of a round
HELD_OUT = "persuasion"


def main() -> None:
    """Measures, and prints a line for each tuner and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="a choice of conf/model")
    parser.add_argument("--tunes", nargs="+", default=TUNES, choices=TUNES)
    parser.add_argument("--base-steps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=100, help="of each tuner")
    parser.add_argument("--rate", type=float, default=3e-3, help="of the base and of full; five times as large for what is added")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    topology.start(topology.Topology(), seed=0)
    base = learned_base(options)
    found: dict[str, list[dict[str, Any]]] = {tune: [] for tune in options.tunes}
    for number in range(options.rounds):
        for tune in found if number % 2 == 0 else reversed(found):
            found[tune].append(tuned(options, tune, base))
    report(options, found)
    topology.stop()


def learned_base(options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Weights that know prose as it is written."""
    config = configured(options, "full")
    engine = engine_of(config, base := built(config), options.rate)
    for step in range(options.base_steps):
        engine.train_step([batch(step, config)])
    engine.close()
    return {name: value.detach().clone() for name, value in base.named_parameters()}


def tuned(options: argparse.Namespace, tune: str, base: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The figures of one tuner in one round."""
    config = configured(options, tune)
    model = built(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(base[name])
    add(config, model)
    attach(config, model)
    engine = engine_of(config, model, options.rate * (1 if tune == "full" else 5))
    whole, moving = counted(model)
    before, kept, seconds = held_out_loss(model, config), kept_bytes(model, config), []
    for step in range(options.steps):
        one = batch(step, config, capitals=True)
        started = time.process_time()
        engine.train_step([one])
        seconds.append(time.process_time() - started)
    tensors = (value for state in engine.optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    state = 4 * moving + sum(value.numel() * value.element_size() for value in tensors)
    engine.close()
    return {
        "parameters": moving, "share": moving / whole, "kept": kept, "state": state,
        "seconds": statistics.median(seconds[UNCOUNTED:]), "before": before, "after": held_out_loss(model, config),
    }  # fmt: skip


def configured(options: argparse.Namespace, tune: str) -> Config:
    """As `python -m train stage=tune tune=…` would."""
    return compose("config", Config, ["stage=tune", f"model={options.model}", "model.glyph_heads=false", f"tune={tune}"])


def built(config: Config) -> Any:
    """Fresh weights."""
    return build(config.model, byte_tokenizer().image, seed=config.seed)


def engine_of(config: Config, model: Any, rate: float) -> Engine:
    """AdamW over what trains."""
    groups, make = groups_of(model, config.optim), optimizer_of(config.optim)
    engine = Engine(model, groups, make, NextToken(), topology.Topology(), EngineOptions())
    engine.set_learning_rate(rate)
    return engine


@cache
def prose(held_out: bool) -> str:
    """Of one side."""
    return "\n".join(novel.text for novel in novels() if (novel.family == HELD_OUT) == held_out)


def batch(step: int, config: Config, capitals: bool = False, held_out: bool = False) -> MicroBatch:
    """Passages that `step` draws, each behind a page of noise."""
    generator, text = np.random.default_rng([step, held_out]), prose(held_out)
    size = config.model.encoder.image_size

    def passages() -> Iterator[Record]:
        for number in range(ROWS):
            start = int(generator.integers(len(text) - BYTES))
            said = text[start : start + BYTES].encode("ascii", "replace").decode()
            page = generator.integers(0, 256, (size, size), dtype=np.uint8)
            said = said.upper() if capitals else said
            yield Record(f"{step}-{number}", "text", "", said, "en", "Latn", "austen", "public domain", 0, pages=(page,))

    spec = BatchSpec((str(size),), config.model.encoder.patch, LENGTH, reserved=config.tune.reserved)
    return Collator(byte_tokenizer(), spec)(list(passages()), ["austen"] * ROWS)


@torch.no_grad()
def held_out_loss(model: Any, config: Config) -> float:
    """Nats a byte of passages in capitals that no step saw."""
    batches = [batch(step, config, capitals=True, held_out=True) for step in range(4)]
    nats = sum(model(one, with_nats=True).nats.item() for one in batches)
    return nats / sum(one.weights()["tokens"] for one in batches)


def kept_bytes(model: Any, config: Config) -> int:
    """What a forward keeps for its backward, parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(batch(0, config, capitals=True), with_nats=True)
    assert output.nats is not None
    return sum(found.values())


def report(options: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> None:
    """Medians over the rounds."""
    figures = {
        tune: {name: statistics.median(one[name] for one in rounds) for name in rounds[0]} for tune, rounds in found.items()
    }
    print(f"{'':12} {'parameters':>10} {'share':>6} {'state MiB':>9} {'kept MiB':>8} {'ms/step':>8} {'loss before':>11} {'after':>6}")
    for tune, row in figures.items():
        print(
            f"{tune:12} {row['parameters']:10.0f} {row['share']:6.1%} {row['state'] / 2**20:9.2f} {row['kept'] / 2**20:8.1f} "
            f"{1000 * row['seconds']:8.1f} {row['before']:11.3f} {row['after']:6.3f}"
        )
    print(json.dumps({**vars(options), "torch": torch.__version__, "figures": figures}))


if __name__ == "__main__":
    main()
