"""LOMO: gradient descent in the backward itself (Lv et al., arXiv 2306.09782). No states, and hardly any gradients."""

from typing import Any

import torch

from parallel.optimizer import FusedOptimizer


class Lomo(FusedOptimizer):
    """w -= lr (g + decay w), as soon as g is there: what torch.optim.SGD does, in less memory."""

    label = "lomo"

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    def update(self, param: torch.nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        """In fp32, rounded to the weight's own type."""
        kept = 1 - group["lr"] * group["weight_decay"]
        param.copy_(param.float().mul_(kept).add_(gradient, alpha=-group["lr"]))
