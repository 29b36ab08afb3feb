"""Looks at weights of a run now and then, and tells how far they are from where the stage began."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from train.config import Config
from train.targets import chosen
from train.transform.sites import sites
from train.weight_decomposition.measure import change_of


class Watch:
    """Keeps, on the host, the weights that a model begins with, this rank's parts of those it is asked for.

    It is made before an engine takes the model and before a checkpoint is resumed: a stage that is started again builds the
    same model from the same seed or `stage.start_from`, so its start need not be saved.
    """

    def __init__(self, model: torch.nn.Module, names: Iterable[str]) -> None:
        """names: of weights as `train.transform.sites` has them, the same on every rank; those of other ranks are theirs."""
        here = sites(model)
        self._sites = {name: here[name] for name in names if name in here}
        self._start = {name: site.weight.detach().to("cpu", copy=True) for name, site in self._sites.items()}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each weight of the model, in its order: layer, rows, magnitude, direction, correlation. All ranks call it."""
        own = [
            {"layer": name, **asdict(change_of(site, self._start[name]))}
            for name, site in self._sites.items()
        ]
        group = parallel_state.get_pipeline_model_parallel_group()
        found: list[list[dict[str, Any]]] = [[] for _ in range(group.size())]
        dist.all_gather_object(found, own, group=group)
        return [row for part in found for row in part]


def watch_of(config: Config, model: torch.nn.Module) -> Watch | None:
    """The watch that a stage asks for, None where it asks for none."""
    asked = config.stage.weight_decomposition
    if not asked.every:
        return None
    option = "stage.weight_decomposition.targets"
    return Watch(model, [target.name for target in chosen(config.model, asked.targets, option)])
