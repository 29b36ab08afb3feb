"""Muon: momentum made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; arXiv 2502.16982).

The momentum is of every weight and lies where ZeRO puts it. A whole matrix is needed for one thing only, its nearest
orthogonal one, and `parallel.whole` brings it together, from data ranks where it lies on a border between two of them and
from tensor ranks where it is split: TP2 does what one process does. Each expert is a matrix of its own.
"""

import math
from typing import Any

import torch

from parallel.optimizer import EngineOptimizer
from parallel.whole import Whole, Wholes

# A quintic that takes singular values in (0, 1] to about 1 in five steps, found by K. Jordan; torch.optim.Muon has the same.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_MATCHES_ADAMW = (
    0.2  # size of AdamW's updates, root of mean squares, so that one rate serves both (arXiv 2502.16982)
)


class Muon(EngineOptimizer):
    """Steps matrices by the orthogonalised Nesterov momentum, scaled to the size of AdamW's updates."""

    label = "muon"
    looks_at_wholes = True

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float, steps: int) -> None:
        """steps: of the Newton-Schulz iteration."""
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})
        self._steps = steps
        self._wholes = Wholes(iter(()))

    def create_states(self) -> None:
        """A momentum of zero."""
        for group in self.param_groups:
            for flat in group["params"]:
                self.state[flat]["momentum_buffer"] = torch.zeros_like(flat)

    def bind(self, wholes: Wholes) -> None:
        """The matrices that lie in the flat parts."""
        self._wholes = wholes

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of what has a gradient."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for flat in group["params"]:
                if flat.grad is None:
                    continue
                buffer = self.state[flat]["momentum_buffer"]
                buffer.lerp_(flat.grad, 1 - momentum)
                direction = self._wholes.apply(flat, [flat.grad.lerp(buffer, momentum)], self._update)
                flat.mul_(1 - rate * group["weight_decay"]).add_(direction, alpha=-rate)

    def _update(self, whole: Whole, momentum: torch.Tensor) -> torch.Tensor:
        size = _MATCHES_ADAMW * math.sqrt(max(momentum.shape[-2:]))
        return newton_schulz(momentum, self._steps).float() * size


def newton_schulz(matrices: torch.Tensor, steps: int) -> torch.Tensor:
    """About U Vᵀ of each matrix U S Vᵀ of [..., rows, columns], in bf16: its singular values come to lie near 1."""
    first, second, third = _QUINTIC
    x = matrices.bfloat16().reshape(-1, *matrices.shape[-2:])
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=second, alpha=third), x, beta=first)
    return (x.mT if is_tall else x).reshape(matrices.shape)
