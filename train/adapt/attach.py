"""Puts into a model what `tune.kind` adds, and says what of it trains."""

import fnmatch
import re
from collections.abc import Collection, Sequence

import torch

from conf.errors import ConfigError
from conf.rules import meant
from parallel.layers import Chunks
from train.adapt.adapter import put_adapters
from train.adapt.prefix import EncodedPrefix, Prefix
from train.adapt.prompt import EncodedPrompt, Prompt
from train.config import Config, TuneConfig
from train.model.initialise import initialise
from train.model.names import whole_names
from train.model.optical import OpticalModel
from train.parameters import names_of_all_stages

KINDS = ("adapter", "prefix", "prompt", "p_tuning", "p_tuning_v2", "selective")


def add(config: Config, model: torch.nn.Module) -> None:
    """Adds the modules of `config.tune` to this rank's part of a model; what was there is frozen, but for `tune.train`.

    What is added begins with values that are a function of `config.seed` and its names, the same in every layout. All
    ranks call it. Raises ConfigError for a pattern that names nothing.
    """
    tune = config.tune
    if tune.kind not in KINDS:
        return
    model.requires_grad_(False)
    before = set(model.parameters())
    pieces = model.pieces if isinstance(model, Chunks) else [model]
    with torch.device(next(iter(before)).device):
        for piece in pieces:
            assert isinstance(piece, OpticalModel)
            _add_to(piece, tune)
    initialise(model, config.seed, only=set(model.parameters()) - before)
    train_also(model, tune.train)


def train_also(model: torch.nn.Module, patterns: Sequence[str]) -> None:
    """Lets the parameters train whose names in the whole model fit one of `patterns` ("*" for anything)."""
    here = whole_names(model)
    everywhere = names_of_all_stages(model) if patterns else set()
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in everywhere):
            raise ConfigError(f"tune.train: no parameter's name fits {pattern}.{_near(pattern, everywhere)}")
        for name, parameter in here.items():
            if fnmatch.fnmatchcase(name, pattern):
                parameter.requires_grad_(True)


def _add_to(piece: OpticalModel, tune: TuneConfig) -> None:
    """What the tuner adds to one piece of the model, with any values."""
    config = piece.config
    if tune.kind == "prompt" and piece.part.embedding:
        piece.prompt = Prompt(config, tune.tokens)
    if tune.kind == "p_tuning" and piece.part.embedding:
        piece.prompt = EncodedPrompt(config, tune.tokens, tune.width)
    if not piece.part.decodes:
        return
    for layer in piece.decoder.layers:
        if tune.kind == "adapter":
            put_adapters(layer, tune.width, tune.targets)
        elif tune.kind == "prefix":
            layer.self_attention.core_attention.prefix = EncodedPrefix(config, tune.tokens, tune.width)
        elif tune.kind == "p_tuning_v2":
            layer.self_attention.core_attention.prefix = Prefix(config, tune.tokens)


def _near(pattern: str, names: Collection[str]) -> str:
    """What a pattern may have meant: for its first word that is part of no name, the nearest; else names as examples."""
    words = {word for name in names for word in name.split(".")}
    unknown = [word for word in re.findall(r"[a-z]\w+", pattern) if not any(word in known for known in words)]
    guess = meant(unknown[0], sorted(words)) if unknown else ""
    return guess or f" Names are such as {', '.join(sorted(names)[:3])}."
