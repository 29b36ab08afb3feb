"""The change of one weight since its start, row by row, as the product uses it (DoRA, arXiv 2402.09353, section 3.2).

    magnitude  dM = mean of | ‖w‖ - ‖w0‖ |        direction  dD = mean of 1 - cos(w, w0)

over the rows of the weight's matrix, each of which makes one output. What low-rank factors add counts; a mask lies on both
sides; rounding counts on neither. The same in every layout: where tensor ranks share out the inputs, they add up the products
that a row is made of, and where ranks have other rows, the sums over these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from parallel.deepspeed_compat.gathered import gathered
from parallel.layers import Site

NOW, BEFORE = ("low_rank", "mask"), ("mask",)  # what counts of a chain
ROWS = 4096  # that are compared at a time: in double precision a large stack of experts would take gigabytes
ROUNDING = 1e-12  # deviation of rows from their mean below which it means nothing


@dataclass(frozen=True)
class Change:
    """dM and dD of one weight, over `rows` rows. correlation: of the two between rows; None where either does not vary."""

    rows: int
    magnitude: float
    direction: float
    correlation: float | None


@torch.no_grad()
def change_of(site: Site, start: torch.Tensor) -> Change:
    """How far a weight is from `start`, this rank's part of it as it was stored then, on any device. All ranks that hold a part
    of the weight call it together; each gets the same.
    """
    with gathered(site.owner.parameters()):
        now = through(site, site.weight, NOW)
        before = through(site, start.to(now.device).requires_grad_(site.weight.requires_grad), BEFORE)
        return _over_rows(site, row_changes(site, now, before))


def through(site: Site, weight: torch.Tensor, kinds: Sequence[str]) -> torch.Tensor:
    """A weight of this site after the links of `kinds` of its chain, in fp32 or better: in bf16 small changes would round away."""
    chain = site.owner.chain(site.parameter)
    trains, weight = weight.requires_grad, weight.detach()
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32)).requires_grad_(trains)
    for name, link in chain.links().items() if chain is not None else ():
        if name in kinds:
            weight = link(weight)
    return weight.detach()


def row_changes(site: Site, now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """[2, rows of this rank] in fp64: change of magnitude and of direction of each row. A row of zeros has no direction."""
    pairs = zip(*(site.matrix(weight).flatten(0, -2).split(ROWS) for weight in (now, before)), strict=True)
    products = torch.cat([_products(new.double(), old.double()) for new, old in pairs], dim=1)
    new, old, both = site.sum_over_inputs(products)
    lengths = new.sqrt() * old.sqrt()
    turned = torch.where(lengths > 0, 1 - both / lengths, 0.0).clamp_(min=0)
    return torch.stack([(new.sqrt() - old.sqrt()).abs(), turned])


def _products(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return torch.stack([new.square().sum(1), old.square().sum(1), (new * old).sum(1)])


def _over_rows(site: Site, changes: torch.Tensor) -> Change:
    """Means and correlation over the rows of all ranks that have other ones."""
    group = _holders_of_other_rows(site)
    ones = torch.ones_like(changes[:1])
    count, *means = _summed(torch.cat([ones, changes]).sum(1), group).tolist()
    magnitude, direction = (total / count for total in means)
    x, y = changes - torch.tensor([[magnitude], [direction]], dtype=changes.dtype, device=changes.device)
    squares_x, squares_y, both = _summed(torch.stack([x @ x, y @ y, x @ y]), group).tolist()
    varies = min(squares_x, squares_y) > count * ROUNDING**2
    return Change(int(count), magnitude, direction, both / (squares_x * squares_y) ** 0.5 if varies else None)


def _holders_of_other_rows(site: Site) -> dist.ProcessGroup | None:
    if site.kind == "experts":
        return site.owner.expert_group
    return (
        parallel_state.get_tensor_model_parallel_group()
        if site.split == "outputs" and site.ranks > 1
        else None
    )


def _summed(values: torch.Tensor, group: dist.ProcessGroup | None) -> torch.Tensor:
    if group is not None and group.size() > 1:
        dist.all_reduce(values, group=group)
    return values
