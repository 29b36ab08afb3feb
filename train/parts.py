"""The parts of a stage that its configuration describes, built in the order they depend on each other."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from conf.errors import ConfigError
from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.stream import Stream
from data_pipeline.tokenizer import Tokenizer, load_tokenizer
from parallel.base import Base
from parallel.device import device
from parallel.engine import Engine, EngineOptions
from parallel.layers import Chunks
from parallel.topology import Topology
from train.config import Config
from train.curriculum import Curriculum
from train.distill.attach import attach_helpers, collator_of, objective_of, teacher_of
from train.model.optical import OpticalModel, build
from train.objective import NextToken
from train.optimizer import groups_of, optimizer_of
from train.parameters import counted, freeze, freeze_idle_heads
from train.start import begin
from train.transform.attach import pack_base
from train.transform.prune import settle
from train.weight_decomposition.watch import Watch, watch_of


@dataclass(frozen=True)
class Parts:
    """What is there before an engine: the model with all that stands around its weights, and how rows are made for it.

    sizes: (parameters, of them training). base: the checkpoint that frozen weights are from. groups: of the optimizer.
    """

    tokenizer: Tokenizer
    spec: BatchSpec
    model: OpticalModel | Chunks
    base: Base | None
    watch: Watch | None
    objective: Callable[..., Any]
    sizes: tuple[int, int]
    groups: list[dict[str, Any]]
    collator: Collator
    curriculum: Curriculum


def parts_of(config: Config) -> Parts:
    """Fresh ones, on this rank; weights begin where `stage.start_from` says."""
    tokenizer, spec = load_tokenizer(config.data.tokenizer), batch_spec(config)
    model = build_model(config, tokenizer)
    base = begin(config, model)
    watch = watch_of(config, model)
    objective = NextToken(**asdict(config.stage.objective), strata=config.logger.details_every > 0)
    freeze(model, config.stage.frozen)
    freeze_idle_heads(model, objective)
    teacher = teacher_of(config, spec)
    attach_helpers(config, model, teacher)
    sizes = counted(model)
    pack_base(config, model)
    return Parts(
        tokenizer, spec, model, base, watch, objective_of(config, objective, teacher), sizes, groups_of(model, config.optim),
        collator_of(config, tokenizer, spec, teacher), curriculum_of(config),
    )  # fmt: skip


def engine_of(config: Config, parts: Parts, topology: Topology, opened: Callable[[], Stream]) -> Engine:
    """The engine around the model. opened: the stage's pages from the first on, which masks may be made from."""
    if config.prune.kind == "wanda":
        settle_masks(parts.model, opened, -(-config.prune.batches // topology.data))
    return Engine(parts.model, parts.groups, optimizer_of(config.optim), parts.objective, topology, options_of(config))


def build_model(config: Config, tokenizer: Tokenizer) -> OpticalModel | Chunks:
    """This rank's part of the model on its device, with fresh weights."""
    if tokenizer.vocab_size > config.model.decoder.vocab_size:
        raise ConfigError(
            f"data.tokenizer={config.data.tokenizer} has {tokenizer.vocab_size} tokens, the model only "
            f"{config.model.decoder.vocab_size}: set model.decoder.vocab_size={-(-tokenizer.vocab_size // 16) * 16}."
        )
    model = build(
        config.model,
        tokenizer.image,
        config.parallel,
        precision=config.engine.precision,
        recompute=config.engine.recompute,
        device=device(),
        seed=config.seed,
        init=config.init,
    )
    return model


def settle_masks(model: torch.nn.Module, opened: Callable[[], Stream], count: int) -> None:
    """Wanda's masks, from the stage's first pages: so many steps' as hold `count` micro-batches of each data rank. A run that goes
    on takes its own masks from its checkpoint afterwards.
    """
    with opened() as stream:
        batches: list[MicroBatch] = []
        while len(batches) < count:
            batches += stream.next_step()
    settle(model, batches)


def options_of(config: Config) -> EngineOptions:
    """How the engine computes a step."""
    engine = config.engine
    return EngineOptions(engine.zero, engine.precision, engine.clip, engine.offload)


def curriculum_of(config: Config) -> Curriculum:
    """The curriculum over the training sources, at its first level."""
    settings = config.stage.curriculum
    weights = {name: source.weight for name, source in config.data.train.items()}
    return Curriculum(settings.levels, weights, settings.advance_at, settings.max_steps)


def batch_spec(config: Config) -> BatchSpec:
    """What a row and the views of this configuration look like."""
    asked = config.stage.objective.patch_glyphs > 0 or config.stage.objective.token_glyphs > 0
    return BatchSpec(
        tuple(config.data.modes),
        config.model.encoder.patch,
        config.data.max_length,
        glyphs=asked,
        texts=config.model.encoder.kind != "optical",
        row_multiple=math.lcm(8, config.parallel.tensor),
        every_size=config.engine.zero == 3,
        reserved=config.tune.reserved,
    )
