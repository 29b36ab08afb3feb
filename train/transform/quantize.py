"""Quantization-aware training: a weight is used as the integers that it will be stored as say, and what it is multiplied
with may be rounded too. Gradients pass the rounding as if it were not there (straight-through, arXiv 1308.3432).

Scales are taken from the weights in every forward pass, or learned: as their logarithm, so that they stay positive and an
optimizer's step is a share of their size (arXiv 1903.08066); a learned scale gets torchao's gradient of range learning.

A row's range is that of all its inputs. Where tensor ranks share those out, a scale for each group is of one rank as long as
groups do not cross ranks (train.validate sees to it), and a scale for the whole row takes one maximum over ranks, as does
what such a layer multiplies, whose positions are shared out in the same way.
"""

import torch

from parallel.layers import Site, WeightTransform, shared_by_ranks
from train.transform.rounding import ACTIVATIONS, ACTIVATIONS_FLOAT8, Rounding, Scales


class FakeQuantize(WeightTransform):
    """Rounds one weight, and with `activations` what it is multiplied with."""

    def __init__(
        self, site: Site, rounding: Rounding, activations: bool = False, learned: bool = False
    ) -> None:
        """learned: scales are parameters, which begin as those of the weight that is used now."""
        super().__init__()
        self.site, self.rounding = site, rounding
        self.activations = (ACTIVATIONS_FLOAT8 if rounding.float8 else ACTIVATIONS) if activations else None
        self.looks_at_inputs = activations
        self.axes = {}
        if learned:
            with torch.no_grad():
                matrix = site.matrix(site.owner.used(site.parameter))
                first = self._from_weights(_rows(matrix)).scale.log()
            self.log_scale = torch.nn.Parameter(first.view(*matrix.shape[:-1], -1))  # [outputs, groups]
            self.log_scale.decays = False  # type: ignore[attr-defined]
            self.axes["log_scale"] = ("outputs", "inputs" if rounding.group else "")
        self.learned = learned

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The used weight."""
        matrix = self.site.matrix(weight)
        rows = _rows(matrix)
        return self.site.like_weight(self.rounding.rounded(rows, self.scales(rows)).view(matrix.shape))

    def inputs(self, x: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """[..., inputs], each position rounded by itself."""
        if self.activations is None:
            return x
        rows = _rows(x)
        low, high = self._over_ranks(*self.activations.ranges(rows))
        scales = self.activations.scales(low, high)
        return self.activations.rounded(rows, scales).view(x.shape)

    def scales(self, rows: torch.Tensor) -> Scales:
        """Of this rank's rows, [R, inputs]."""
        if not self.learned:
            return self._from_weights(rows)
        logarithm: torch.Tensor = self.log_scale
        if not self.rounding.group and self.site.split == "inputs" and self.site.ranks > 1:
            logarithm = shared_by_ranks(logarithm)
        scale = logarithm.exp().view(len(rows), -1)
        return Scales(scale, torch.zeros_like(scale))

    @torch.no_grad()
    def stored(self, weight: torch.Tensor) -> tuple[torch.Tensor, Scales]:
        """What is kept of a weight: integers of its matrix's shape, and scales [rows, groups]."""
        matrix = self.site.matrix(weight)
        rows = _rows(matrix)
        scales = self.scales(rows)
        return self.rounding.integers(rows, scales).view(matrix.shape), scales

    @torch.no_grad()
    def restored(self, integers: torch.Tensor, scales: Scales) -> torch.Tensor:
        """The weight that `stored` stands for."""
        rows = self.rounding.restored(_rows(integers), scales, self.site.weight.dtype)
        return self.site.like_weight(rows.view(integers.shape))

    def _from_weights(self, rows: torch.Tensor) -> Scales:
        low, high = self.rounding.ranges(rows)
        if not self.rounding.group:
            low, high = self._over_ranks(low, high)
        return self.rounding.scales(low, high)

    def _over_ranks(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.site.split != "inputs" or self.site.ranks == 1:
            return low, high
        both = self.site.max_over_inputs(torch.stack([-low, high]))
        return -both[0], both[1]


def _rows(matrix: torch.Tensor) -> torch.Tensor:
    """[R, inputs]: the rows of all experts are alike, and so are those of all positions."""
    return matrix.reshape(-1, matrix.shape[-1])
