"""Stage 3 frees a weight after its use, but autograd saves views of it for the backward, which keep it whole.

A weight that is saved as it is takes no memory: autograd keeps the parameter, which DeepSpeed empties. A view, such as the
transpose that a grouped product of experts or a matrix product takes, holds on to the storage: most of a mixture of
experts would stay whole on every rank from its forward to its backward.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from parallel.options import EngineOptions


def holding_no_weights(options: EngineOptions) -> AbstractContextManager:
    """For a forward: views of parameters are saved as the parameter and the place in it, in stage 3."""
    return torch.autograd.graph.saved_tensors_hooks(_pack, _unpack) if options.zero == 3 else nullcontext()


def _pack(tensor: torch.Tensor) -> Any:
    base = tensor._base
    if not isinstance(base, torch.nn.Parameter) or tensor.dtype != base.dtype:
        return tensor
    return base, tensor.shape, tensor.stride(), tensor.storage_offset() - base.storage_offset()


def _unpack(saved: Any) -> torch.Tensor:
    if isinstance(saved, torch.Tensor):
        return saved
    param, shape, stride, offset = (
        saved  # whole again for the backward of its module, perhaps elsewhere in memory
    )
    return param.detach().as_strided(shape, stride, param.storage_offset() + offset)
