"""Lion: the sign of a momentum (Chen et al., arXiv 2302.06675). Every weight is stepped by itself, so any ZeRO stage will do."""

from typing import Any

import torch

from parallel.optimizer import EngineOptimizer


class Lion(EngineOptimizer):
    """w -= lr (sign(b1 m + (1 - b1) g) + decay w), then m = b2 m + (1 - b2) g: half of AdamW's states."""

    label = "lion"

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    def create_states(self) -> None:
        """A momentum of zero."""
        for group in self.param_groups:
            for flat in group["params"]:
                self.state[flat]["exp_avg"] = torch.zeros_like(flat)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of what has a gradient."""
        for group in self.param_groups:
            (fast, slow), rate = group["betas"], group["lr"]
            for flat in group["params"]:
                if flat.grad is None:
                    continue
                momentum = self.state[flat]["exp_avg"]
                direction = momentum.lerp(flat.grad, 1 - fast).sign_()
                flat.mul_(1 - rate * group["weight_decay"]).add_(direction, alpha=-rate)
                momentum.lerp_(flat.grad, 1 - slow)
