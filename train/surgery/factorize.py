"""A matrix becomes the product of two of a low rank (parallel/layers/factored.py): rank x (inputs + outputs) numbers.

By its singular values: no other matrix of that rank is nearer, and the squared distance is the sum of the squares of the singular
values that were dropped (Eckart and Young). With the power of each input known, from pages, inputs count by their size (ASVD, arXiv
2312.05821): what is small then is the error of the output, not of the matrix.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from train.config import ModelConfig
from train.surgery.config import FactorizeConfig
from train.surgery.sizes import factored
from train.surgery.units import DECODER, Weights, layers_of

PLACES = {"attention": ("self_attention.linear_qkv.weight", "self_attention.linear_proj.weight"),
          "ffn": ("mlp.linear_fc1.weight", "mlp.linear_fc2.weight", "mlp.shared_experts.linear_fc1.weight",
                  "mlp.shared_experts.linear_fc2.weight")}  # fmt: skip
FAINTEST = 1e-3  # of the root mean square of all inputs: one that no page used is taken to be so strong


def factorize(
    weights: Weights, model: ModelConfig, ranks: FactorizeConfig, power: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The weights and the model with two factors in the place of each matrix for which a rank is given.

    power: key of a matrix → mean square of each input; {} where all count alike. Raises ConfigError for an impossible rank.
    """
    after = factored(model, ranks)
    found = dict(weights)
    for kind, names in PLACES.items():
        rank = getattr(ranks, kind)
        if rank is None:
            continue
        for _, name, key in layers_of(DECODER, weights):
            if name in names:
                wide, narrow = factors(found.pop(key), rank, power.get(key))
                stem = key.removesuffix(".weight")
                found[f"{stem}.wide.weight"], found[f"{stem}.narrow.weight"] = wide, narrow
    return found, after


def factors(matrix: Tensor, rank: int, power: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(wide [outputs, rank], narrow [rank, inputs]), whose product is nearest to `matrix` for inputs of this `power` [inputs];
    zeros where the rank is more than the matrix has.
    """
    strengths = torch.ones(matrix.shape[1], dtype=torch.float64)
    if power is not None:
        strengths = power.double().sqrt()
        strengths = strengths.clamp(min=FAINTEST * power.double().mean().sqrt().item() or 1.0)
    left, values, right = torch.linalg.svd(matrix.double() * strengths, full_matrices=False)
    kept = min(rank, len(values))
    wide, narrow = matrix.new_zeros(matrix.shape[0], rank), matrix.new_zeros(rank, matrix.shape[1])
    roots = values[:kept].sqrt()
    wide[:, :kept] = left[:, :kept] * roots
    narrow[:kept] = roots.unsqueeze(1) * right[:kept] / strengths
    return wide, narrow
