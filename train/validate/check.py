"""Well-typed but impossible settings, refused before torch is imported; each sentence names the override that
mends it.

All faults are told at once, so that nobody mends a configuration one start at a time.
"""

import os
from collections.abc import Iterator

from conf import rules
from conf.errors import ConfigError
from data_pipeline.data_config import faults as data_faults
from parallel.determinism import variable_faults
from train.config import Config
from train.targets import chosen
from train.validate.distill import distill_faults
from train.validate.files import file_faults
from train.validate.guard import guard_faults
from train.validate.layout import layout_faults
from train.validate.model import model_faults
from train.validate.optim import init_faults, optim_faults
from train.validate.profile import profile_faults
from train.validate.quantize import prune_faults, quantize_faults
from train.validate.teacher import distill_file_faults
from train.validate.tune import tune_faults, tune_file_faults

# What stage.frozen may name: the parts of train.model.optical.OpticalModel.
PARTS = (
    "encoder.window",
    "encoder.compressor",
    "encoder.global",
    "encoder.projector",
    "encoder.newline",
    "encoder.separator",
    "decoder",
    "glyph_heads",
)


def validate(config: Config, world: int, files: bool = True) -> None:
    """Raises ConfigError with every impossible value of `config` for `world` processes.

    files: also look for the shard sets, the tokenizer and the checkpoint it names (a recipe makes them only
    later).
    """
    checks = (model_faults, _data, init_faults, _stage, _curriculum, _run, tune_faults, distill_faults, quantize_faults, prune_faults, guard_faults)
    faults = [fault for check in checks for fault in check(config)]
    faults += [*optim_faults(config, world), *layout_faults(config, world), *profile_faults(config, world)]
    if files and not faults:
        faults += [*file_faults(config), *tune_file_faults(config), *distill_file_faults(config)]
    if len(faults) > 1:
        raise ConfigError("\n  ".join([f"{len(faults)} settings cannot work:", *faults]))
    if faults:
        raise ConfigError(faults[0])


def _data(config: Config) -> Iterator[str]:
    """What is read, and that its rows fit the decoder."""
    data, most = config.data, config.model.decoder.max_length
    yield from data_faults(data, config.model.encoder.patch)
    if data.max_length > most:
        yield (
            f"data.max_length={data.max_length}: the decoder holds {most} positions. "
            f"Choose data.max_length={most}, or a larger model.decoder.max_length."
        )


def _stage(config: Config) -> Iterator[str]:
    stage, warmup = config.stage, config.optim.warmup_steps
    yield from rules.positive("stage", stage, "steps checkpoint_every evaluate_every keep_checkpoints")
    why = "a page is compared with another one"
    yield from rules.at_least("stage.evaluation_pages", stage.evaluation_pages, 2, why)
    if warmup > stage.steps > 0:
        fitting = stage.steps // 10
        yield f"optim.warmup_steps={warmup}: stage.steps={stage.steps} is less. Choose optim.warmup_steps={fitting}."
    yield from _weight_decomposition(config)
    for prefix in stage.frozen:
        if not any(
            prefix == part or part.startswith(prefix + ".") or prefix.startswith(part + ".") for part in PARTS
        ):
            guess = rules.meant(prefix, PARTS)
            yield f"stage.frozen: the model has no part {prefix}.{guess} It has: {', '.join(PARTS)}."
    if config.resume is not None and stage.start_from is not None:
        yield (
            f"resume={config.resume}: goes on from there with everything, stage.start_from={stage.start_from} begins anew with "
            "weights alone. Choose one: stage.start_from=null, or resume=null."
        )
    if {"encoder", "decoder"} <= set(stage.frozen):
        yield f"stage.frozen={stage.frozen}: nothing is left to train."


def _weight_decomposition(config: Config) -> Iterator[str]:
    asked, where = config.stage.weight_decomposition, "stage.weight_decomposition"
    yield from rules.at_least(f"{where}.every", asked.every, 0)
    if asked.every < 1:
        return
    try:
        chosen(config.model, asked.targets, f"{where}.targets")
    except ConfigError as error:
        yield str(error)
    if config.resume is not None:
        yield (
            f"resume={config.resume}: weights are compared with those that a stage begins with, and that run began elsewhere. "
            f"Choose {where}.every=0, or go on in that run's own folder (run.directory= and run.name=, without resume=)."
        )


def _curriculum(config: Config) -> Iterator[str]:
    curriculum, data, where = config.stage.curriculum, config.data, "stage.curriculum"
    yield from rules.fraction(f"{where}.advance_at", curriculum.advance_at)
    yield from rules.at_least(f"{where}.max_steps", curriculum.max_steps, 0)
    for number, level in enumerate(curriculum.levels):
        if not level:
            yield f"{where}.levels: level {number} is empty. Name a source of data.train, or leave the level out."
        for name in level:
            if name not in data.train:
                known = list(data.train)
                guess = rules.meant(name, known)
                yield f"{where}.levels: data.train has no source {name}.{guess} It has: {', '.join(known) or 'none'}."
            elif (
                number + 1 < len(curriculum.levels)
                and name not in data.held_out
                and curriculum.max_steps == 0
            ):
                yield (
                    f"{where}.levels: {name} has no pages in data.held_out, so its accuracy cannot end the level. "
                    f"Choose {where}.max_steps=500, or add held-out pages."
                )


def _run(config: Config) -> Iterator[str]:
    yield from rules.one_of("run.device", config.run.device, ["auto", "cpu", "cuda"])
    yield from rules.one_of("logger.wandb", config.logger.wandb, ["offline", "online", "disabled"])
    yield from rules.positive("logger", config.logger, "console_every")
    for name in ("checksums_every", "details_every", "samples"):
        yield from rules.at_least(f"logger.{name}", getattr(config.logger, name), 0)
    yield from rules.positive("run", config.run, "timeout")
    yield from variable_faults(os.environ) if config.deterministic else ()
    if not 0 <= config.seed < 2**31:
        yield f"seed={config.seed}: choose 0 to {2**31 - 1}."
    if config.run.name.strip() in ("", ".", ".."):
        yield f"run.name={config.run.name!r}: give the run a name, such as run.name=first_try."
