"""The optimizer that `optim.name` names, over the groups that the engine hands out."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from parallel.optimizer import EngineOptimizer, Split
from train.config import OptimConfig
from train.optimizer.adafactor import Adafactor
from train.optimizer.galore import GaLore
from train.optimizer.groups import HIDDEN, parameter_groups
from train.optimizer.lion import Lion
from train.optimizer.lomo import Lomo
from train.optimizer.muon import Muon

Groups: TypeAlias = list[dict[str, Any]]
Maker: TypeAlias = Callable[[Groups], torch.optim.Optimizer]


def optimizer_of(config: OptimConfig) -> Maker:
    """Makes the optimizer, given the groups. Libraries that only one of them needs are imported with it."""
    return _MAKERS[config.name](config)


def groups_of(module: nn.Module, config: OptimConfig) -> Groups:
    """The groups that the optimizer wants: with Muon and GaLore, matrices of hidden layers apart from the rest."""
    return parameter_groups(module, config.weight_decay, hidden_apart=config.name in _FOR_MATRICES)


def adamw(config: OptimConfig) -> Maker:
    """torch's AdamW (Loshchilov & Hutter, arXiv 1711.05101)."""

    def make(groups: Groups) -> torch.optim.Optimizer:
        # fused: one pass over the flat parameters, 10 times faster than the plain one on a CPU
        return torch.optim.AdamW(groups, lr=config.lr, betas=_two(config), eps=config.eps, fused=True)

    return make


def lion(config: OptimConfig) -> Maker:
    """Lion."""
    return lambda groups: Lion(groups, config.lr, _two(config))


def adafactor(config: OptimConfig) -> Maker:
    """Adafactor, for all groups."""
    return lambda groups: Adafactor(groups, config.lr, config.beta2_decay, config.update_clip)


def muon(config: OptimConfig) -> Maker:
    """Muon for hidden matrices, AdamW for the rest."""
    return _beside_adamw(
        config, lambda groups: Muon(groups, config.lr, config.momentum, config.newton_schulz_steps)
    )


def galore(config: OptimConfig) -> Maker:
    """GaLore for hidden matrices, AdamW for the rest."""
    settings = (config.rank, config.refresh_every, config.scale)
    return _beside_adamw(
        config, lambda groups: GaLore(groups, config.lr, _two(config), config.eps, *settings)
    )


def adamw_8bit(config: OptimConfig) -> Maker:
    """bitsandbytes' AdamW with states of 8 bits."""
    from train.optimizer.eight_bit import AdamW8Bit

    return lambda groups: AdamW8Bit(groups, lr=config.lr, betas=_two(config), eps=config.eps)


def lion_8bit(config: OptimConfig) -> Maker:
    """bitsandbytes' Lion with a state of 8 bits."""
    from train.optimizer.eight_bit import Lion8Bit

    return lambda groups: Lion8Bit(groups, lr=config.lr, betas=_two(config))


def schedule_free(config: OptimConfig) -> Maker:
    """AdamW without a schedule, whose average is read."""
    from train.optimizer.schedule_free import ScheduleFree

    return lambda groups: ScheduleFree(groups, lr=config.lr, betas=_two(config), eps=config.eps)


def lomo(config: OptimConfig) -> Maker:
    """Gradient descent in the backward."""
    return lambda groups: Lomo(groups, config.lr)


def _beside_adamw(config: OptimConfig, make: Callable[[Groups], EngineOptimizer]) -> Maker:
    def both(groups: Groups) -> torch.optim.Optimizer:
        hidden = [group for group in groups if HIDDEN in group]
        rest = [group for group in groups if HIDDEN not in group]
        made = [maker(own) for maker, own in ((make, hidden), (adamw(config), rest)) if own]
        return Split(config.name, made)

    return both


def _two(config: OptimConfig) -> tuple[float, float]:
    return config.betas[0], config.betas[1]


_FOR_MATRICES = ("muon", "galore")
_MAKERS: dict[str, Callable[[OptimConfig], Maker]] = {
    "adamw": adamw,
    "muon": muon,
    "lion": lion,
    "adafactor": adafactor,
    "adamw_8bit": adamw_8bit,
    "lion_8bit": lion_8bit,
    "schedule_free": schedule_free,
    "galore": galore,
    "lomo": lomo,
}
