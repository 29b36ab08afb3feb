"""Attention in blocks against the formulas, and against torch's."""

import pytest
import torch
import torch.nn.functional as F

from parallel.layers import cpu_attention


def by_the_formula(qkv: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Position by position: scores, and for each pair the two vectors of its offsets."""
    length, width = qkv.shape[1], qkv.shape[4]
    side = round(length**0.5)
    q, k, v = qkv.permute(3, 0, 2, 1, 4)
    at = torch.arange(length)
    i, j = at // side, at % side
    vertical = rows[i[:, None] - i[None, :] + side - 1]
    horizontal = columns[j[:, None] - j[None, :] + side - 1]
    scores = q @ k.transpose(-1, -2) / width**0.5 + torch.einsum("bnqh,qkh->bnqk", q, vertical + horizontal)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("side", [1, 5, 8, 20])
def test_attention_on_a_square_is_the_formula_forward_and_backward(side: int, monkeypatch) -> None:
    monkeypatch.setattr(cpu_attention, "_BLOCK", 3000)  # heads apart, and at 20 also queries
    monkeypatch.setattr(cpu_attention, "SHORT", 30)  # with weights kept, and made again
    torch.manual_seed(side)
    inputs = [torch.randn(2, side * side, 3, 3, 8), torch.randn(2 * side - 1, 8), torch.randn(2 * side - 1, 8)]
    wanted = compare(by_the_formula, [x.double() for x in inputs])
    for found, expected in zip(compare(cpu_attention.square_attention, inputs), wanted):
        assert (found - expected).abs().max() <= 2e-6 * expected.abs().max().clamp(min=1.0)


@pytest.mark.parametrize("length", [1, 100, 128, 300])
def test_causal_attention_is_torchs_forward_and_backward(length: int) -> None:
    torch.manual_seed(length)
    inputs = [torch.randn(length, 2, 3, 8) for _ in range(3)]

    def expected(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3).permute(2, 0, 1, 3).flatten(2)

    wanted = compare(expected, [x.double() for x in inputs])
    for found, other in zip(compare(lambda *x: cpu_attention.causal_attention(*x, 0.3), inputs), wanted):
        assert (found - other).abs().max() <= 2e-6 * other.abs().max().clamp(min=1.0)


@pytest.mark.parametrize("causal", [False, True])
def test_short_attention_is_torchs(causal: bool) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 17, 8) for _ in range(3)]
    wanted = compare(lambda *x: F.scaled_dot_product_attention(*x, is_causal=causal), [x.double() for x in inputs])
    found = compare(lambda *x: cpu_attention.short_attention(*x, causal, None), inputs)
    for one, other in zip(found, wanted):
        assert (one - other).abs().max() <= 2e-6 * other.abs().max().clamp(min=1.0)


def compare(function, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The result, and the gradients of a sum with weights of its own for every element."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs)]
