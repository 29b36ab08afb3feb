"""What a stage begins with: the model of an earlier run, as that run used it, and around it what this stage adds."""

from pathlib import Path

import torch

from conf.errors import ConfigError
from data_pipeline.errors import UserError
from parallel import checkpoint
from parallel.base import Base
from parallel.layers import fold, take_off
from parallel.snapshot import load_module
from train.adapt.attach import add
from train.config import Config
from train.find_run import locate, read_config
from train.transform.attach import attach, round_base

FOLDED = (
    "low_rank",
    "mask",
)  # rounding is taken off instead: the next stage goes on from the weights that were rounded


def begin(config: Config, model: torch.nn.Module) -> Base | None:
    """Gives the model, fresh from `build`, the weights that `stage.start_from` names, and adds what this stage adds.

    Returns the checkpoint that the model's own weights equal now; None where they are those of no checkpoint. All ranks call
    it. Raises CheckpointError or ConfigError for a run whose model this one is not.
    """
    base = load_start(Path(config.stage.start_from), model) if config.stage.start_from else None
    if base is None and not saves_base(config):
        raise ConfigError(
            "stage.save_base=false or tune.base=nf4: what is added can be saved apart from a model that lies in a checkpoint unchanged. Choose "
            "stage.start_from=RUN, one without factors or masks of its own, or stage.save_base=true tune.base=as_is."
        )
    add(config, model)
    attach(config, model)
    return base


def saves_base(config: Config) -> bool:
    """Whether checkpoints hold the model's own weights; packed ones are in no module that could be asked for them."""
    return config.stage.save_base and config.tune.base == "as_is"


def load_whole(config: Config, folder: Path, model: torch.nn.Module) -> None:
    """The weights in a run's checkpoint `folder`, with all that `config`, the run's, put around them. All ranks call it."""
    add(config, model)
    attach(config, model)
    load_module(folder, model)
    round_base(config, model)


def load_start(path: Path, model: torch.nn.Module) -> Base | None:
    """The weights of a run's newest checkpoint, its factors and masks worked into them; the checkpoint, where it had none."""
    try:
        found = locate(path, "stage.start_from")
    except UserError:  # a checkpoint that was taken out of its run: weights alone
        load_module(path, model)
        return Base.of(checkpoint.require(path))
    before = read_config(found.folder / "config.yaml")
    if before.tune.has_modules:
        raise ConfigError(
            f"stage.start_from={path}: that run's model reads through what tune={before.tune.kind} added, which cannot be worked "
            f"into its weights. Choose the run that it began with, stage.start_from={before.stage.start_from}."
        )
    folder = checkpoint.require(found.checkpoints)
    load_whole(before, folder, model)
    fold(model, FOLDED)
    take_off(model)
    model.requires_grad_(True)
    changed = before.tune.has_factors or before.prune.kind != "none"
    return None if changed else Base.of(folder)
