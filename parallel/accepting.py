"""Somebody's say in whether a step is made, and how ranks come to one answer."""

from collections.abc import Callable

import torch
import torch.distributed as dist

from parallel.device import device

Accepts = Callable[[str, float], bool]  # asked of the "loss" and then of the "grad_norm" of a step, before weights change


def agreed(accepts: Accepts) -> Accepts:
    """The same answer on every rank: no, where one of them says so. All ranks ask together."""

    def accepted(name: str, value: float) -> bool:
        refused = torch.tensor(float(not accepts(name, value)), device=device())
        dist.all_reduce(refused)
        return refused.item() == 0

    return accepted
