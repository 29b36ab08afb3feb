"""The weights of a model that can carry transforms, by their names in the whole model."""

import torch

from parallel.layers import Site, Transformable, chunks_of
from train.model.names import whole_name


def sites(model: torch.nn.Module) -> dict[str, Site]:
    """Those of this rank. An experts' layer has two, named as its weights; any other is named as its layer."""
    found = {}
    for piece in chunks_of(model):
        for name, module in piece.named_modules():
            if isinstance(module, Transformable):
                for site in module.sites():
                    layer = whole_name(piece, name)
                    found[f"{layer}.{site.parameter}" if site.kind == "experts" else layer] = site
    return found
