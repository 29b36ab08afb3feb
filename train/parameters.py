"""Which parameters train and how many there are, the same in every layout."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from conf.errors import ConfigError
from parallel.device import device
from parallel.snapshot import cut, describe
from train.model.names import whole_names
from train.objective import NextToken


def freeze(model: torch.nn.Module, prefixes: Sequence[str]) -> None:
    """Keeps the parameters whose names in the whole model start with one of `prefixes` as they are; every prefix must
    name something on some stage."""
    here, everywhere = whole_names(model), names_of_all_stages(model) if prefixes else set()
    for prefix in prefixes:
        if not any(_within(name, prefix) for name in everywhere):
            parts = sorted({".".join(name.split(".")[:2]) for name in everywhere})
            raise ConfigError(f"stage.frozen: no parameter's name starts with {prefix}; choose from {', '.join(parts)}.")
        for name, parameter in here.items():
            if _within(name, prefix):
                parameter.requires_grad_(False)


def freeze_idle_heads(model: torch.nn.Module, objective: NextToken) -> None:
    """Freezes the glyph heads that the objective does not ask: they would get no gradient."""
    asked = {"glyph_heads.patch": objective.patch_glyphs > 0, "glyph_heads.token": objective.token_glyphs > 0}
    for name, parameter in whole_names(model).items():
        for head, wanted in asked.items():
            if _within(name, head):
                parameter.requires_grad_(wanted and parameter.requires_grad)


def counted(model: torch.nn.Module) -> tuple[int, int]:
    """(all, those that train) of the whole model, however it is split. All ranks call it, before an engine takes the
    model: ZeRO-3 leaves nothing in its parameters."""
    counts = torch.zeros(2, dtype=torch.float64)
    for entry in describe(model):
        parameter = entry.data
        if isinstance(parameter, torch.nn.Parameter):
            own = sum(piece.tensor.numel() for piece in cut(entry, parameter, "") if piece.first)
            counts += torch.tensor([own, own * parameter.requires_grad], dtype=torch.float64)
    counts = counts.to(device())
    dist.all_reduce(counts)
    whole, moving = counts.tolist()
    return int(whole), int(moving)


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def names_of_all_stages(model: torch.nn.Module) -> set[str]:
    """The names that the parameters of all pipeline stages have in the whole model; all of them call it."""
    found: list[list[str]] = [[] for _ in range(parallel_state.get_pipeline_model_parallel_world_size())]
    dist.all_gather_object(found, list(whole_names(model)), group=parallel_state.get_pipeline_model_parallel_group())
    return {name for names in found for name in names}
