"""What a page could also have been compressed to: its text, given as tokens, in as many vectors as its picture gets.

The critique of optical compression ("Optical Context Compression Is Just (Bad) Autoencoding", arXiv 2512.03643) asks
whether pictures beat plain ways of shortening a sequence of embeddings. Here are three, in the place of DeepEncoder,
with the same layout of rows, newlines and separator: mean pooling, convolutions, and cutting off what comes late.

Shapes: V views, T text tokens of the longest, K vision tokens of one view, D decoder width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import LayerNorm, Module, ModuleList
from train.model.deepencoder import Vision

KERNEL, STRIDE, CONVOLUTIONS = 4, 2, 2


class TextEncoder(Module):
    """Embedded texts -> as many vectors as the vision tokens of their pages. kind: "mean_pool", "convolution" or
    "truncation".
    """

    def __init__(self, kind: str, width: int, config: TransformerConfig) -> None:
        super().__init__(config)
        self.kind = kind
        dtype = config.params_dtype
        if kind == "convolution":
            self.convolutions = ModuleList(
                torch.nn.Conv1d(width, width, KERNEL, STRIDE, padding=(KERNEL - STRIDE) // 2, dtype=dtype)
                for _ in range(CONVOLUTIONS)
            )
            self.norm = LayerNorm(config, width, 1e-6)
        self.newline = torch.nn.Parameter(torch.empty(width, dtype=dtype))
        self.separator = torch.nn.Parameter(torch.empty(width, dtype=dtype))

    def forward(
        self, embedded_VTD: torch.Tensor, lengths_V: torch.Tensor, stacks: Sequence[tuple[int, int]]
    ) -> Vision:
        """embedded: of all texts, anything beyond their `lengths`. stacks: (views, K) of each, in order of the texts."""
        x_VTD = embedded_VTD * inside(lengths_V, embedded_VTD.shape[1]).unsqueeze(-1)
        if self.kind == "convolution":
            x_VTD, lengths_V = self.shortened(x_VTD, lengths_V)
        shares = x_VTD.split([views for views, _ in stacks])
        lengths = lengths_V.split([views for views, _ in stacks])
        reduce = truncated if self.kind == "truncation" else pooled
        tokens = tuple(reduce(x, own, count) for x, own, (_, count) in zip(shares, lengths, stacks, strict=True))
        table = [*(stack.flatten(0, 1) for stack in tokens), torch.stack([self.newline, self.separator])]
        return Vision(None, None, tokens, torch.cat(table))

    def shortened(self, x_VTD: torch.Tensor, lengths_V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Through the convolutions, each of which halves a text: ([V, T / 4, D], lengths)."""
        x_VDT = F.pad(x_VTD.transpose(1, 2), (0, max(0, STRIDE**CONVOLUTIONS - x_VTD.shape[1])))
        for convolution in self.convolutions:
            x_VDT, lengths_V = F.gelu(convolution(x_VDT)), -(-lengths_V // STRIDE)
            x_VDT = x_VDT * inside(lengths_V, x_VDT.shape[2]).unsqueeze(1)  # nothing from beyond a text's end
        return self.norm(x_VDT.transpose(1, 2)), lengths_V


def inside(lengths_V: torch.Tensor, longest: int) -> torch.Tensor:
    """bool [V, longest]: the positions of each text."""
    return torch.arange(longest, device=lengths_V.device) < lengths_V[:, None]


def pooled(x_VTD: torch.Tensor, lengths_V: torch.Tensor, count: int) -> torch.Tensor:
    """[V, T, D] -> [V, K, D]: means over K spans of each text, as even as can be (torch's adaptive average pooling);
    zeros for an empty text.
    """
    span = torch.arange(count, device=x_VTD.device)
    first = span * lengths_V[:, None] // count
    last = -(-(span + 1) * lengths_V[:, None] // count)
    place = torch.arange(x_VTD.shape[1], device=x_VTD.device)
    inside_VKT = (place >= first.unsqueeze(-1)) & (place < last.unsqueeze(-1))
    weights = inside_VKT / (last - first).clamp(min=1).unsqueeze(-1)
    return weights.to(x_VTD.dtype) @ x_VTD


def truncated(x_VTD: torch.Tensor, lengths_V: torch.Tensor, count: int) -> torch.Tensor:
    """[V, T, D] -> [V, K, D]: the first K; zeros where a text is shorter."""
    return F.pad(x_VTD[:, :count], (0, 0, 0, max(0, count - x_VTD.shape[1])))
