"""The transforms that a configuration asks for, put into a model whose weights are loaded."""

import math

import torch

from parallel.layers import Site
from train.adapt.attach import train_also
from train.config import Config, PruneConfig, QuantizeConfig, TuneConfig
from train.targets import Target, chosen, matches
from train.transform.low_rank import Factors, LowRank
from train.transform.nf4 import pack, rounded
from train.transform.prune import Mask
from train.transform.sites import sites


def attach(config: Config, model: torch.nn.Module) -> None:
    """Puts the chains of `config` around the weights that this rank holds, as they are now."""
    here = sites(model)
    round_base(config, model)
    if config.tune.has_factors:
        model.requires_grad_(False)
        for target in chosen(config.model, config.tune.targets, "tune.targets"):
            if target.name in here:
                _attach_factors(here[target.name], target, config.tune, config.seed)
        train_also(model, config.tune.train)
    if config.prune.kind != "none":
        for target in chosen(config.model, config.prune.targets, "prune.targets"):
            if target.name in here:
                _attach_mask(here[target.name], config.prune)
    if config.quantize.bits:
        for target in chosen(config.model, config.quantize.targets, "quantize.targets"):
            if target.name in here:
                attach_rounding(here[target.name], config.quantize)


def round_base(config: Config, model: torch.nn.Module) -> None:
    """Gives the weights that `tune.base` will pack the values that they have when they are unpacked."""
    for site in _packed(config, model):
        rounded(site)


def pack_base(config: Config, model: torch.nn.Module) -> None:
    """Packs them: the last thing that is done to a model before it trains."""
    for site in _packed(config, model):
        pack(site)


def _packed(config: Config, model: torch.nn.Module) -> list[Site]:
    if config.tune.base != "nf4":
        return []
    here = sites(model)
    targets = chosen(config.model, config.tune.targets, "tune.targets")
    return [here[target.name] for target in targets if target.name in here]


def _attach_factors(site: Site, target: Target, tune: TuneConfig, seed: int) -> None:
    rank = rank_of(target, tune)
    scale = tune.alpha / (math.sqrt(rank) if tune.rank_stabilised else rank)
    factors = Factors(rank, scale, tune.kind == "dora", tune.dropout if target.kind == "linear" else 0.0)
    site.attach("low_rank", LowRank(site, factors, target.name, seed))


def _attach_mask(site: Site, prune: PruneConfig) -> None:
    """By magnitude at once; Wanda's keeps all until it has seen pages (`train.transform.prune.settle`)."""
    mask = Mask(site, prune.sparsity, prune.pattern)
    site.attach("mask", mask)
    if prune.kind == "magnitude":
        mask.choose()


def attach_rounding(site: Site, quantize: QuantizeConfig) -> None:
    """torchao, which takes seconds to load, is loaded here."""
    from train.transform.quantize import FakeQuantize
    from train.transform.rounding import Rounding

    rounding = Rounding(quantize.bits, quantize.group, quantize.symmetric, quantize.numbers == "fp8")
    site.attach(
        "quantize",
        FakeQuantize(site, rounding, quantize.activation_bits > 0, quantize.scales == "learned"),
    )


def rank_of(target: Target, tune: TuneConfig) -> int:
    """The rank of a layer's factors: that of the last entry of `tune.ranks` that names it, or `tune.rank`."""
    own = [rank for name, rank in tune.ranks.items() if matches(target.name, name)]
    return own[-1] if own else tune.rank
