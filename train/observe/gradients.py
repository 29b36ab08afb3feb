"""How large the gradients of each part of the model are, and how far a step moves its weights for their size."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from parallel.magnitudes import GRADIENT, UPDATE, WEIGHT, Magnitudes
from train.adapt.adapter import ADAPTERS
from train.model.names import whole_names
from train.observe.observer import Look

# Group -> parts of names, of which the first that fits counts; each name has a dot before it
GROUPS: dict[str, tuple[str, ...]] = {
    "added": (".transforms.", *(f".{name}." for name in (*ADAPTERS, "prompt", "prefix", "helpers"))),
    "glyph_heads": (".glyph_heads.",),
    "window": (".encoder.window.",),
    "global": (".encoder.global.",),
    "compressor": (".encoder.",),  # with the projector, newline and separator
    "embedding": (".word_embeddings.",),
    "head": (".output_layer.",),
    "norms": ("norm.", "norm_"),
    "attention": (".self_attention.",),
    "router": (".router.",),
    "shared_experts": (".shared_experts.",),
    "experts": (".experts.",),
    "dense": (".mlp.",),
    "other": (".",),
}
NAMES = tuple(GROUPS)


def group_of(name: str) -> str:
    """The group of a parameter, by its name in the whole model."""
    return next(group for group, parts in GROUPS.items() if any(part in f".{name}" for part in parts))


class Gradients:
    """Looks at every `every`-th step."""

    def __init__(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, every: int) -> None:
        """module: this rank's part of the model; optimizer: of the engine that trains it."""
        trained = {name: param for name, param in whole_names(module).items() if param.requires_grad}
        groups = {param: NAMES.index(group_of(name)) for name, param in trained.items()}
        self._every, self._magnitudes = every, Magnitudes(optimizer, groups, len(NAMES))

    def before(self, step: int) -> None:
        """The optimizer of a step that is looked at is watched."""
        if step % self._every == 0:
            self._magnitudes.open()

    def after(self, look: Look) -> Mapping[str, Any]:
        """grad_norm/GROUP before clipping, and update_ratio/GROUP: the norm of what the step added over that of the weights."""
        if look.step % self._every:
            return {}
        sums = self._magnitudes.close().cpu()
        total = math.sqrt(float(sums[:, GRADIENT].sum()))
        if look.output.skipped or not total:
            return {}
        clipped = look.output.grad_norm / total  # by one factor for all, whose inverse this is
        values = {}
        for group, row in zip(NAMES, sums.sqrt().tolist(), strict=True):
            if row[WEIGHT]:
                values[f"grad_norm/{group}"] = row[GRADIENT] * clipped
                values[f"update_ratio/{group}"] = row[UPDATE] / row[WEIGHT]
        return values

    def close(self) -> None:
        """Nothing is watched any more."""
        self._magnitudes.drop()
