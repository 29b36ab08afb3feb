"""GaLore: AdamW in a few directions of each matrix's gradient (Zhao et al., arXiv 2403.03507).

The directions are the first singular vectors of a gradient, found anew every so many steps; moments are kept in them
alone. The rule is galore-torch's. Whole gradients are brought together by `parallel.whole`.
"""

import math
from typing import Any

import torch

from parallel.whole import Whole
from train.optimizer.kept import KeepsOfWholes


class GaLore(KeepsOfWholes):
    """Keeps rank x (rows + 2 columns) numbers of a wide matrix where AdamW keeps 2 x rows x columns."""

    label = "galore"

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        rank: int,
        refresh_every: int,
        scale: float,
    ) -> None:
        """rank: directions, or as many as a matrix has. refresh_every: steps. scale: of what goes back to the matrix."""
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._rank, self._every, self._scale = rank, refresh_every, scale

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of what has a gradient."""
        for group in self.param_groups:
            for flat in group["params"]:
                if flat.grad is None:
                    continue
                count = int(self.state[flat]["step"].add_(1))

                def update(whole: Whole, gradient: torch.Tensor) -> torch.Tensor:
                    return self._update(self._kept[whole.name], gradient, group, count)  # noqa: B023

                flat.sub_(self._wholes.apply(flat, [flat.grad], update))
                flat.mul_(1 - group["lr"] * group["weight_decay"])

    def shapes(self, shape: torch.Size) -> dict[str, tuple[int, ...]]:
        """The longer side is kept: of a tall matrix directions among columns, of a wide one among rows."""
        *lead, rows, columns = shape
        rank = min(self._rank, rows, columns)
        if rows >= columns:
            low, directions = (*lead, rows, rank), (*lead, rank, columns)
        else:
            low, directions = (*lead, rank, columns), (*lead, rows, rank)
        return {"directions": directions, "low_exp_avg": low, "low_exp_avg_sq": low}

    def _update(
        self, kept: dict[str, torch.Tensor], gradient: torch.Tensor, group: dict[str, Any], count: int
    ) -> torch.Tensor:
        directions, is_tall = kept["directions"], gradient.shape[-2] >= gradient.shape[-1]
        if (count - 1) % self._every == 0:
            left, _, right = torch.linalg.svd(gradient, full_matrices=False)
            rank = directions.shape[-2] if is_tall else directions.shape[-1]
            directions.copy_(right[..., :rank, :] if is_tall else left[..., :rank])
        low = gradient @ directions.mT if is_tall else directions.mT @ gradient
        (fast, slow), moment, squares = group["betas"], kept["low_exp_avg"], kept["low_exp_avg_sq"]
        moment.mul_(fast).add_(low, alpha=1 - fast)
        squares.mul_(slow).addcmul_(low, low, value=1 - slow)
        step = moment / (squares.sqrt() + group["eps"])
        rate = group["lr"] * math.sqrt(1 - slow**count) / (1 - fast**count)
        return (step @ directions if is_tall else directions @ step) * (self._scale * rate)
