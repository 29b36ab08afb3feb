"""The two training steps that `benchmarks.step` compares: ours through the engine, theirs in torch alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.compose import compose
from train.config import Config

RATE = "1.0e-4"  # small enough that rounding does not grow into another run within a few steps


@dataclass
class Trainer:
    """One of the two. step: makes one, and notes its loss in `losses`. tokens: with a label, in a step."""

    step: Callable[[], None]
    tokens: int
    losses: list[float] = field(default_factory=list)

    def flops(self) -> float:
        """Of the matrix products of one more step."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False, custom_mapping=uncounted_kernels()) as counter:
            self.step()
        return float(counter.get_total_flops())


@dataclass(frozen=True)
class Ceiling:
    """A large matrix product, again and again, and its FLOPs."""

    step: Callable[[], None]
    work: float


def configured(model: str, frozen: bool) -> Config:
    """Next-token loss alone, everything trained unless `frozen`; bf16 where there is a GPU."""
    import torch

    choices = [f"model={model}", "stage=pretrain", f"optim.lr={RATE}", "model.decoder.aux_loss=0.0", "model.glyph_heads=false"]
    choices += [] if frozen else ["stage.frozen=[]"]
    choices += ["engine=zero1_bf16"] if torch.cuda.is_available() else []
    return compose("config", Config, choices)


@contextmanager
def start_alone() -> Iterator[None]:
    """Process groups of this process alone."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    try:
        yield
    finally:
        stop()


def trainer(name: str, config: Config, rows: int, alone: bool = False) -> Trainer:
    """"ours" or "theirs", with the same pages and from the same weights; `alone`, theirs gets weights of its own, so that
    ours is never in its process."""
    from benchmarks.engine_overhead import pages

    batch = pages(config, rows, 1)[0]
    tokens = int(batch.weights()["tokens"])
    made = Trainer(lambda: None, tokens)
    made.step = _ours(config, batch, made.losses) if name == "ours" else _theirs(config, batch, made.losses, alone)
    return made


def _ours(config: Config, batch: Any, losses: list[float]) -> Callable[[], None]:
    from parallel.engine import Engine
    from parallel.topology import Topology
    from train.objective import NextToken
    from train.optimizer import adamw, parameter_groups
    from train.parameters import freeze
    from train.stage import options_of

    model = _model(config)
    freeze(model, config.stage.frozen)
    groups = parameter_groups(model, config.optim.weight_decay)
    engine = Engine(model, groups, adamw(config.optim), NextToken(), Topology(), options_of(config))
    engine.set_learning_rate(config.optim.lr)
    return lambda: losses.append(engine.train_step([batch]).loss)


def _theirs(config: Config, batch: Any, losses: list[float], alone: bool) -> Callable[[], None]:
    """As the model's own documentation would have one train it: labels to the model, no cache."""
    import torch

    from benchmarks.peer import fresh, peer
    from parallel.device import device
    from train.optimizer import parameter_groups

    image = _image(config)
    dtype = torch.bfloat16 if config.engine.precision == "bf16" else torch.float32
    model = fresh(config.model, image, dtype, device()) if alone else peer(config.model, image, _model(config).state_dict())
    if config.stage.frozen:
        model.model.vision_tower.sam_encoder.requires_grad_(False)
    groups = [{key: group[key] for key in ("params", "weight_decay")} for group in parameter_groups(model, config.optim.weight_decay)]
    trained = [parameter for group in groups for parameter in group["params"]]
    optim = config.optim
    optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=tuple(optim.betas), eps=optim.eps, fused=True)
    labels = batch.labels.roll(1, 1)  # the model itself compares each position with the label that follows it

    def step() -> None:
        pixels = batch.views[0].to(model.dtype).div_(127.5).sub_(1.0)
        loss = model(input_ids=batch.tokens, pixel_values=pixels, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.engine.clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))

    return step


def _model(config: Config) -> Any:
    from parallel.device import device
    from train.model.optical import build

    return build(config.model, _image(config), config.parallel, precision=config.engine.precision, device=device(), seed=0)


def _image(config: Config) -> int:
    from data_pipeline.tokenizer import load_tokenizer

    return load_tokenizer(config.data.tokenizer).image


def ceiling(precision: str) -> Ceiling:
    """One product of 2048 x 2048 matrices on a CPU, 8192 on a GPU."""
    import torch

    from parallel.device import device

    side = 8192 if torch.cuda.is_available() else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    first, second = (torch.randn(side, side, device=device(), dtype=dtype) for _ in range(2))
    out = torch.empty_like(first)
    def step() -> None:
        torch.mm(first, second, out=out)

    return Ceiling(step, 2.0 * side**3)


def uncounted_kernels() -> dict[Any, Any]:
    """What torch's counter passes over: attention and grouped products of the CPU."""
    import torch
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    aten = torch.ops.aten

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(gradient, query, key, value)

    return {
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


def memory_of(name: str, config: Config, rows: int) -> float:
    """Peak bytes of three steps, above what is taken before there is a model. On a CPU: resident bytes of the process."""
    import torch

    import train.stage  # noqa: F401

    before = _resident("VmRSS")
    with start_alone() if name == "ours" else nullcontext():
        made = trainer(name, config, rows, alone=True)
        for _ in range(3):
            made.step()
    return float(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else _resident("VmHWM") - before


def _resident(what: str) -> float:
    """VmRSS, bytes of this process in memory, or VmHWM, the most there ever were."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * float(next(line for line in lines if line.startswith(what)).split()[1])
