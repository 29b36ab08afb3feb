"""Schedule-free AdamW (Defazio et al., arXiv 2405.15682): an average of the weights takes the place of a falling rate.

Gradients are taken at y, between the average x and the last step z. x is what is read: the engine shows it to evaluation
and stores it as the model's weights, with y beside it, from which training goes on to the last bit.
"""

from typing import Any

import schedulefree
import torch

from parallel.optimizer import EngineOptimizer

_COUNTERS = ("k", "weight_sum", "lr_max")  # of each group: schedulefree's own names


class ScheduleFree(EngineOptimizer, schedulefree.AdamWScheduleFree):
    """schedulefree's optimizer, which always stands at y."""

    label = "schedule_free"
    averages = True

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.train()

    def create_states(self) -> None:
        """z where the weights are, second moments of zero."""
        for group in self.param_groups:
            for flat in group["params"]:
                self.state[flat]["z"] = flat.detach().clone()
                self.state[flat]["exp_avg_sq"] = torch.zeros_like(flat)

    def average(self, stepped: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """x, from y = b1 x + (1 - b1) z."""
        fast = self.defaults["betas"][0]
        return stepped.lerp(z, 1 - 1 / fast)

    def counters(self) -> list[dict[str, float]]:
        """The count of steps and the weights of the average."""
        return [{name: group[name] for name in _COUNTERS} for group in self.param_groups]

    def set_counters(self, counters: list[dict[str, float]]) -> None:
        """Goes on from there."""
        for group, own in zip(self.param_groups, counters, strict=True):
            group.update(own)
