"""A matrix becomes the product of two of a low rank (parallel/layers/factored.py): rank x (inputs + outputs) numbers.

By its singular values: no other matrix of that rank is nearer, and the squared distance is the sum of the squares of the singular
values that were dropped (Eckart and Young). With the products of its inputs known, from pages, the same is true of the outputs for
these inputs: x = S z, with S Sᵀ their mean product and z as strong in every direction, so that W S is what counts (SVD-LLM, arXiv
2403.07378; ASVD, 2312.05821, with the diagonal of S alone).
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
FACTORED = (*PLACES["attention"], *PLACES["ffn"])
FAINTEST = (
    1e-6  # of the mean power in a direction: one in which no page had anything is taken to have so much
)


def factorize(
    weights: Weights, model: ModelConfig, ranks: FactorizeConfig, products: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The weights and the model with two factors in the place of each matrix for which a rank is given.

    products: key of a matrix → mean of x xᵀ over its inputs x; {} where all count alike. Raises ConfigError for an impossible rank.
    """
    after = factored(model, ranks)
    found = dict(weights)
    for kind, names in PLACES.items():
        rank = getattr(ranks, kind)
        if rank is None:
            continue
        for _, name, key in layers_of(DECODER, weights):
            if name in names:
                wide, narrow = factors(found.pop(key), rank, products.get(key))
                stem = key.removesuffix(".weight")
                found[f"{stem}.wide.weight"], found[f"{stem}.narrow.weight"] = wide, narrow
    return found, after


def factors(matrix: Tensor, rank: int, products: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(wide [outputs, rank], narrow [rank, inputs]), whose product is nearest to `matrix`, or for inputs with these mean `products`
    [inputs, inputs] gives the nearest outputs; zeros where the rank is more than the matrix has.
    """
    there = back = torch.eye(matrix.shape[1], dtype=torch.float64)
    if products is not None:
        power, directions = torch.linalg.eigh(products.double())
        strengths = power.clamp(min=FAINTEST * power.mean().item() or 1.0).sqrt()
        there, back = directions * strengths, (directions / strengths).t()
    left, values, right = torch.linalg.svd(matrix.double() @ there, full_matrices=False)
    kept = min(rank, len(values))
    wide, narrow = matrix.new_zeros(matrix.shape[0], rank), matrix.new_zeros(rank, matrix.shape[1])
    roots = values[:kept].sqrt()
    wide[:, :kept] = left[:, :kept] * roots
    narrow[:kept] = roots.unsqueeze(1) * (right[:kept] @ back)
    return wide, narrow
