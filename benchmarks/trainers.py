"""The two training steps that `benchmarks.step` compares, each alone in a process: ours through the engine, theirs in torch
alone. `python -m benchmarks.trainers ours|theirs …` answers `benchmarks.turns`.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.turns import peak_memory, resident, serve
from conf.compose import compose
from train.config import Config

RATE = "1.0e-4"  # small enough that rounding does not grow into another run within a few steps
LETTERS = 8  # of text to a vision token; the smoke recipe has pages with 4 and with 8
PRODUCTS = 5  # of large matrices, in one timing


def main() -> None:
    """Makes one of the two, and a step whenever the parent asks."""
    options = parser().parse_args()
    config = configured(options.model, options.frozen)

    for imported in ("transformers.models.unlimited_ocr.modeling_unlimited_ocr", "parallel.engine", "train.stage"):
        import_module(imported)  # here, so that what they take is no part of what the model takes
    before = resident("VmRSS")
    settings = started() if options.name == "ours" or options.our_settings else nullcontext()
    with settings:
        batch = pages(config, options.rows)
        make = ours if options.name == "ours" else theirs
        step = make(config, batch, Path(options.weights))

        def timed() -> dict[str, float]:
            began = time.perf_counter()
            loss = step()
            synchronize()
            return {"seconds": time.perf_counter() - began, "loss": loss}

        serve(
            {
                "step": timed,
                "flops": lambda: flops(step),
                "ceiling": lambda: ceiling(config.engine.precision),
                "tokens": lambda: int(batch.weights()["tokens"]),
                "memory": lambda: peak_memory(before),
            }
        )


def parser() -> argparse.ArgumentParser:
    """What both processes are told."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("name", choices=["ours", "theirs"])
    made.add_argument("--weights", required=True, help="file of our weights: ours writes it, theirs reads it")
    made.add_argument("--model", default="small")
    made.add_argument("--rows", type=int, default=2)
    made.add_argument("--frozen", action="store_true")
    made.add_argument("--our-settings", action="store_true")
    return made


def configured(model: str, frozen: bool) -> Config:
    """Next-token loss alone, everything trained unless `frozen`; bf16 where there is a GPU."""
    import torch

    choices = [f"model={model}", "stage=pretrain", f"optim.lr={RATE}", "model.decoder.aux_loss=0.0", "model.glyph_heads=false"]
    choices += [] if frozen else ["stage.frozen=[]"]
    choices += ["engine=zero1_bf16"] if torch.cuda.is_available() else []
    return compose("config", Config, choices)


@contextmanager
def started() -> Iterator[None]:
    """A process as `python -m train` starts it, alone."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    try:
        yield
    finally:
        stop()


def pages(config: Config, rows: int) -> Any:
    """A micro-batch of pages of noise with random letters."""
    from benchmarks.engine_overhead import pages as noise
    from data_pipeline.resolution import mode_of, vision_tokens

    mode, patch = mode_of(config.data.modes[0]), config.model.encoder.patch
    return noise(config, rows, 1, LETTERS * vision_tokens(mode, patch))[0]


def ours(config: Config, batch: Any, weights: Path) -> Callable[[], float]:
    """A step as the training loop makes it; returns the loss."""
    import torch

    from parallel.device import device
    from parallel.engine import Engine
    from parallel.topology import Topology
    from train.model.optical import build
    from train.objective import NextToken
    from train.optimizer import adamw, parameter_groups
    from train.parameters import freeze
    from train.parts import options_of

    precision = config.engine.precision
    model = build(config.model, _image(config), config.parallel, precision=precision, device=device(), seed=0)
    torch.save(model.state_dict(), weights)
    freeze(model, config.stage.frozen)
    groups = parameter_groups(model, config.optim.weight_decay)
    engine = Engine(model, groups, adamw(config.optim), NextToken(), Topology(), options_of(config))
    engine.set_learning_rate(config.optim.lr)
    return lambda: engine.train_step([batch]).loss


def theirs(config: Config, batch: Any, weights: Path) -> Callable[[], float]:
    """A step as their documentation would have one train it: labels to the model, no cache."""
    import torch

    from benchmarks.peer import peer
    from train.optimizer import parameter_groups

    model = peer(config.model, _image(config), torch.load(weights, mmap=True))
    if config.stage.frozen:
        model.model.vision_tower.sam_encoder.requires_grad_(False)
    groups = [{key: group[key] for key in ("params", "weight_decay")} for group in parameter_groups(model, config.optim.weight_decay)]
    trained = [parameter for group in groups for parameter in group["params"]]
    optim = config.optim
    optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=tuple(optim.betas), eps=optim.eps, fused=True)
    labels = batch.labels.roll(1, 1)  # the model itself compares each position with the label that follows it

    def step() -> float:
        pixels = batch.views[0].to(model.dtype).div_(127.5).sub_(1.0)
        loss = model(input_ids=batch.tokens, pixel_values=pixels, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.engine.clip)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _image(config: Config) -> int:
    from data_pipeline.tokenizer import load_tokenizer

    return load_tokenizer(config.data.tokenizer).image


def ceiling(precision: str) -> float:
    """FLOP/s of a product of large matrices: 2048 x 2048 on a CPU, 8192 on a GPU."""
    import torch

    from parallel.device import device

    side = 8192 if torch.cuda.is_available() else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    first, second = (torch.randn(side, side, device=device(), dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(PRODUCTS):
        synchronize()
        began = time.perf_counter()
        torch.mm(first, second)
        synchronize()
        best = max(best, 2.0 * side**3 / (time.perf_counter() - began))
    return best


def flops(step: Callable[[], float]) -> float:
    """Of the matrix products, attention's too, of one more step."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(gradient, query, key, value)

    aten = torch.ops.aten
    passed_over = {
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=passed_over) as counter:
        step()
    return float(counter.get_total_flops())


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
