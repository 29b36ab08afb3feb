"""Activation functions that keep their input only: what else backward needs is cheap to make again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from parallel.layers.module import Module


def swiglu(halves: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up of [..., gate then up], half as wide; not recorded for backward, `swiglu_gradients` is that."""
    gate, up = halves.chunk(2, -1)
    return F.silu(gate).mul_(up)


def swiglu_gradients(halves: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient of `swiglu` in its input, given that in its result."""
    gate, up = halves.chunk(2, -1)
    out = torch.empty_like(halves)
    g_gate, g_up = out.chunk(2, -1)
    torch.mul(gradient, F.silu(gate), out=g_up)
    torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=g_gate)
    return out


class SwiGLU(Module):
    """`swiglu` of a feed-forward's first product, as a module that megatron-core's MLP builds."""

    def forward(self, halves: torch.Tensor) -> torch.Tensor:
        """[..., 2 F], gate then up -> [..., F]."""
        return _SwiGLU.apply(halves)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, halves: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(halves)
        return swiglu(halves)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return swiglu_gradients(ctx.saved_tensors[0], gradient)


@contextmanager
def made_again(out: torch.Tensor, make: Callable[[], torch.Tensor], user: torch.nn.Module) -> Iterator[None]:
    """For the call of `user` on `out`: what autograd would keep of `out` is made again in backward, by `make`.

    For an activation function whose input is kept anyway. Under ZeRO-3 nothing changes: there what is kept is looked after
    already (`parallel.deepspeed_compat.views`), and one of the two would undo the other.
    """
    if any(hasattr(parameter, "ds_id") for parameter in user.parameters()):
        yield
        return
    storage = out.untyped_storage()._cdata

    def pack(tensor: torch.Tensor) -> torch.Tensor | torch.Size:
        return tensor.shape if tensor.untyped_storage()._cdata == storage else tensor

    def unpack(kept: torch.Tensor | torch.Size) -> torch.Tensor:
        return make().view(kept) if isinstance(kept, torch.Size) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
