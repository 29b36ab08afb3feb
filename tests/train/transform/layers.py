"""A stack with every kind of layer that can carry a transform, in fp64, and the same of plain torch modules for peft."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import ColumnLinear, Convolution, Linear, Module, RowLinear, Site
from train.transform.low_rank import Factors, LowRank

WIDTH, HIDDEN, RANK, SCALE = 24, 40, 4, 2.0
EXACT = torch.float64


def config(tensor: int = 1, sequence: bool = False) -> TransformerConfig:
    """Of layers in fp64, which a rounding error of 1e-12 tells apart from a wrong formula."""
    return TransformerConfig(
        num_layers=1, hidden_size=WIDTH, num_attention_heads=2, use_cpu_initialization=True,
        tensor_model_parallel_size=tensor, sequence_parallel=sequence, params_dtype=EXACT, bf16=False,
        gradient_accumulation_fusion=False,
    )  # fmt: skip


def drawn(name: str, *shape: int) -> torch.Tensor:
    """Values that a name decides."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return torch.randn(*shape, generator=generator, dtype=EXACT) * 0.2


class Stack(Module):
    """Whole, split by outputs, split by inputs; with a convolution before them where there are pages. whole: with the first
    one, which no rank of sequence parallelism may have.
    """

    def __init__(self, shape: TransformerConfig, convolution: bool = False, whole: bool = True) -> None:
        super().__init__(shape)
        if convolution:
            self.conv = Convolution(3, WIDTH, 3, 2, 1, dtype=EXACT)
        if whole:
            self.whole = Linear(shape, WIDTH, WIDTH)
        self.column = ColumnLinear(shape, WIDTH, HIDDEN)
        self.row = RowLinear(shape, HIDDEN, WIDTH)
        with torch.no_grad():
            for name, site in sites_of(self).items():
                whole = drawn(name, *site.whole_shape)
                site.weight.copy_(site.like_weight(site.part(whole, ("outputs", "inputs"))))
                bias = drawn(f"{name} bias", site.whole_shape[0])
                site.owner.bias.copy_(site.part(bias, ("outputs",)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[L, B, width], or pages [B, 3, G, G] -> [L, B, width]."""
        if hasattr(self, "conv"):
            x = self.conv(x).flatten(2).permute(2, 0, 1)
        x = self.whole(x) if hasattr(self, "whole") else x
        return self.row(F.gelu(self.column(x)))


def sites_of(stack: Stack) -> dict[str, Site]:
    """Its weights by the names of its layers."""
    return {name: next(layer.sites()) for name, layer in stack.named_children()}  # type: ignore[operator]


def factorised(stack: Stack, magnitude: bool, dropout: float = 0.0, scale: float = SCALE) -> Stack:
    """Puts factors on every weight, whose first values are those of `drawn`."""
    stack.requires_grad_(False)
    for name, site in sites_of(stack).items():
        factors = LowRank(site, Factors(RANK, scale, magnitude, dropout), name, seed=0)
        with torch.no_grad():
            factors.a.copy_(site.part(drawn(f"{name} a", RANK, site.whole_shape[1]), ("", "inputs")))
        site.attach("low_rank", factors)
    return stack


def plain(convolution: bool = False) -> torch.nn.Module:
    """The same function with torch's own modules."""

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if convolution:
                self.conv = torch.nn.Conv2d(3, WIDTH, 3, 2, 1, dtype=EXACT)
            self.whole = torch.nn.Linear(WIDTH, WIDTH, dtype=EXACT)
            self.column = torch.nn.Linear(WIDTH, HIDDEN, dtype=EXACT)
            self.row = torch.nn.Linear(HIDDEN, WIDTH, dtype=EXACT)
            for name, layer in self.named_children():
                with torch.no_grad():
                    layer.weight.copy_(drawn(name, *layer.weight.flatten(1).shape).view_as(layer.weight))
                    layer.bias.copy_(drawn(f"{name} bias", *layer.bias.shape))

        forward = Stack.forward

    return Plain()


def task(convolution: bool = False) -> SimpleNamespace:
    """Inputs and what should come out."""
    x = drawn("pages", 2, 3, 8, 8) if convolution else drawn("input", 16, 2, WIDTH)
    return SimpleNamespace(x=x, target=drawn("target", 16, 2, WIDTH))
