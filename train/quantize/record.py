"""What each matrix multiplies while the model reads pages: some rows of it, for methods that round with a look at them."""

from collections.abc import Sequence

import torch

from data_pipeline.batch import MicroBatch
from parallel.device import device
from parallel.layers import Site, WeightTransform, take_off


class Inputs(WeightTransform):
    """A link that changes nothing and keeps rows; of experts, for each its own."""

    looks_at_inputs = True

    def __init__(self, site: Site, each: int) -> None:
        """each: rows that are kept of one batch, evenly spaced."""
        super().__init__()
        self.axes, self.each = {}, each
        experts = site.matrix(site.weight).shape[:-2]
        self.rows: list[list[torch.Tensor]] = [[] for _ in range(experts[0] if experts else 1)]

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight."""
        return weight

    def inputs(self, x: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """As it is."""
        rows = x.detach().flatten(0, -2)
        parts = [rows] if counts is None else rows.split(counts.tolist())
        for kept, part in zip(self.rows, parts, strict=True):
            kept.append(part[:: max(1, -(-len(part) // self.each))].float().clone())
        return x

    def found(self) -> list[torch.Tensor]:
        """[N, inputs] of each matrix."""
        return [torch.cat(kept) for kept in self.rows]


@torch.no_grad()
def record(
    model: torch.nn.Module, chosen: dict[str, Site], batches: Sequence[MicroBatch], rows: int
) -> dict[str, list[torch.Tensor]]:
    """By name, about `rows` rows that each matrix of the chosen weights was multiplied with."""
    recorders = {name: Inputs(site, max(1, rows // len(batches))) for name, site in chosen.items()}
    for name, site in chosen.items():
        site.attach("quantize", recorders[name])
    model.eval()
    for batch in batches:
        model(batch.to(device()))
    take_off(model, ("quantize",))
    return {name: recorder.found() for name, recorder in recorders.items()}
