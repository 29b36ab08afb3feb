"""What low-rank factors make of a product with the frozen weight: y = stretch ∘ (W x + B (A x)), the end of it.

Written by hand because tensors of the output's size are what DoRA costs over LoRA: torch would make four of them, forward and
backward, where one is needed; taking memory for them costs a CPU more than the arithmetic.

Shapes: N positions in any number of axes, O outputs, R rank.
"""

from typing import Any

import torch

PART = 2**17  # elements of a tensor that a CPU's nearest caches hold beside those of another


class Stretched(torch.autograd.Function):
    """(product [N, O], inner [N, R], b [O, R], stretch [O] or None for LoRA, again) -> [N, O], in the place of `product`.

    again: the result may be written over by what follows before backward, as when tensor ranks add up their parts in place; the
    unstretched one is kept beside it then. Otherwise it is won back from the result: a row that is stretched to nothing gets no
    gradient for its stretch.
    """

    @staticmethod
    def forward(
        ctx: Any,
        product: torch.Tensor,
        inner: torch.Tensor,
        b: torch.Tensor,
        stretch: torch.Tensor | None,
        again: bool,
    ) -> torch.Tensor:
        rows, inner = product.view(-1, product.shape[-1]), inner.reshape(-1, inner.shape[-1])
        rows.addmm_(inner, b.t())
        ctx.again = again
        if stretch is None or not again:
            ctx.mark_dirty(product)
        if stretch is None:
            ctx.save_for_backward(inner, b)
            return product
        used = stretch.to(product.dtype)
        result = product * used if again else product.mul_(used)
        ctx.save_for_backward(inner, b, used, product if again else result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        inner, b, *stretched = ctx.saved_tensors
        rows, of_stretch = gradient.reshape(-1, gradient.shape[-1]), None
        if stretched:
            used, kept = stretched
            of_stretch = summed_products(rows, kept.view_as(rows))
            if not ctx.again:
                of_stretch = torch.where(used == 0, 0.0, of_stretch / used)
            rows = rows * used
        of_inner = (rows @ b).view(*gradient.shape[:-1], -1)
        return rows.view_as(gradient), of_inner, rows.t() @ inner, of_stretch, None


def summed_products(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Σ over the N of two tensors' products, [O], in fp32 or better; on a CPU part by part, so that no third one is made."""
    precise = torch.promote_types(first.dtype, torch.float32)
    if first.is_cuda:
        return (first * second).sum(0, dtype=precise)
    count = max(1, PART // first.shape[1])
    total = first.new_zeros(first.shape[1], dtype=precise)
    for part, other in zip(first.split(count), second.split(count)):
        total += (part * other).sum(0, dtype=precise)
    return total
