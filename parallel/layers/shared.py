"""Parameters that every tensor-parallel rank holds whole and uses for its own part."""

import torch
from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region


def shared_by_ranks(parameter: torch.Tensor) -> torch.Tensor:
    """A replicated parameter that each tensor rank uses for its own heads, features or positions: the same values forward,
    gradients summed over ranks backward.
    """
    shared = copy_to_tensor_model_parallel_region(parameter)
    if shared.requires_grad:
        # megatron-core sums a copy of a gradient that is not contiguous, and returns what it got
        shared.register_hook(torch.Tensor.contiguous)
    return shared
