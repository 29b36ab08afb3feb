"""Whether working factors into weights loses anything: taken off again, they must leave the base."""

import torch

from train.transform.low_rank import LowRank
from train.transform.sites import sites


@torch.no_grad()
def undone(model: torch.nn.Module) -> float:
    """The largest difference between a weight and what merging and unmerging make of it, as a share of the largest weight of
    its layer.
    """
    worst = 0.0
    for site in sites(model).values():
        chain = site.owner.chain(site.parameter)
        factors = chain["low_rank"] if chain is not None and "low_rank" in chain else None
        if isinstance(factors, LowRank):
            back = factors.unmerged(factors(site.weight))
            worst = max(worst, ((back - site.weight).abs().max() / site.weight.abs().max()).item())
    return worst
