"""The weights of a small model, other models made of them, and what these give for a batch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.train.model.small_model import IMAGE_TOKEN, noise_pages, small_model, without_zeros
from train.config import ModelConfig
from train.model.optical import build
from train.remake.weights import module_of, weights_of


def random_weights(model: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Weights of which every one has a say, larger than first weights are."""
    weights = weights_of(without_zeros(build(model, IMAGE_TOKEN, seed=seed)))
    return {key: value * (1.5 if value.ndim > 1 else 1.0) for key, value in weights.items()}


def outputs(model: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Logits where there is a token, and what the glyph heads see, for pages of noise."""
    batch: Any = noise_pages()
    with torch.no_grad():
        out = module_of(model, weights, IMAGE_TOKEN)(batch, with_glyphs=model.glyph_heads)
    found = {"logits": out.logits[~batch.padding]}
    if model.glyph_heads:
        found |= {"patch": out.patch_glyphs[0], "token": out.token_glyphs[0]}
    return found


def dense_model() -> ModelConfig:
    """All layers dense."""
    model = small_model()
    return replace(model, decoder=replace(model.decoder, dense_layers=3))


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of two models' outputs, as a share of the largest output."""
    return max(((one[name] - other[name]).abs().max() / one[name].abs().max()).item() for name in one)
