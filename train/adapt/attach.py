"""Puts into a model what `tune.kind` adds, and says what of it trains."""

import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from conf.errors import ConfigError
from conf.rules import meant
from parallel.layers import Chunks
from train.adapt.adapter import put_adapters
from train.adapt.prefix import EncodedPrefix, Prefix
from train.adapt.prompt import EncodedPrompt, Prompt
from train.config import Config, TuneConfig
from train.model.initialise import initialise
from train.model.names import LAYERS, whole_names
from train.model.optical import OpticalModel
from train.parameters import names_of_all_stages
from train.targets import chosen


def add(config: Config, model: torch.nn.Module) -> None:
    """Adds the modules of `config.tune` to this rank's part of a model; what was there is frozen, but for `tune.train`.

    What is added begins with values that are a function of `config.seed` and its names, the same in every layout. All
    ranks call it. Raises ConfigError for a pattern that names nothing.
    """
    tune = config.tune
    if not (tune.has_modules or tune.kind == "selective"):
        return
    model.requires_grad_(False)
    before = set(model.parameters())
    pieces = model.pieces if isinstance(model, Chunks) else [model]
    with torch.device(next(iter(before)).device):
        for piece in pieces:
            assert isinstance(piece, OpticalModel)
            _add_to(piece, config)
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


def _add_to(piece: OpticalModel, config: Config) -> None:
    """What the tuner adds to one piece of the model, with any values."""
    tune, shape = config.tune, piece.config
    if piece.part.embedding and tune.kind == "prompt":
        piece.prompt = Prompt(shape, tune.tokens)
    if piece.part.embedding and tune.kind == "p_tuning":
        piece.prompt = EncodedPrompt(shape, tune.tokens, tune.width)
    layers: Iterable[Any] = piece.decoder.layers if piece.part.decodes else ()
    if tune.kind == "adapter":
        targets = [target.name for target in chosen(config.model, tune.targets, "tune.targets")]
        for number, layer in enumerate(layers, piece.part.first_layer):
            put_adapters(layer, f"{LAYERS}{number}", tune.width, targets)
    elif tune.kind in ("prefix", "p_tuning_v2"):
        for layer in layers:
            layer.self_attention.core_attention.prefix = _prefix(tune, shape)


def _prefix(tune: TuneConfig, shape: TransformerConfig) -> Prefix | EncodedPrefix:
    if tune.kind == "prefix":
        return EncodedPrefix(shape, tune.tokens, tune.width)
    return Prefix(shape, tune.tokens)


def _near(pattern: str, names: Collection[str]) -> str:
    """What a pattern may have meant: for its first word that is part of no name, the nearest; else names as examples."""
    words = {word for name in names for word in name.split(".")}
    unknown = [word for word in re.findall(r"[a-z]\w+", pattern) if not any(word in known for known in words)]
    guess = meant(unknown[0], sorted(words)) if unknown else ""
    return guess or f" Names are such as {', '.join(sorted(names)[:3])}."
