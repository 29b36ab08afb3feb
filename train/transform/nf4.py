"""QLoRA's storage: frozen weights of 4 bits a number, made whole again for each product.

Each block of 64 numbers has a scale, its largest magnitude, and each number is one of 16 that split a normal distribution evenly
(NormalFloat). bitsandbytes rounds and packs. The weight itself is no parameter any more: nothing keeps it, autograd neither, and
checkpoints leave it to the base that it came from. Source: QLoRA, arXiv 2305.14314.
"""

import logging
from typing import Any

import torch

from parallel.layers import Site, WeightTransform

BLOCK = 64  # numbers that share a scale, one after the other in a row


def rounded(site: Site) -> None:
    """Gives a weight the values that it will have when it is unpacked."""
    with torch.no_grad():
        site.weight.copy_(Packed(site.weight)(site.weight))


def pack(site: Site) -> None:
    """Takes the weight off its layer; in its place is a link of its chain, which has it packed, and a shape without values."""
    weight = site.weight
    site.attach("packed", Packed(weight))
    del site.owner._parameters[site.parameter]
    hollow = torch.empty_like(weight, device="meta")
    for name in ("allreduce", "tensor_model_parallel"):
        if hasattr(weight, name):
            setattr(hollow, name, getattr(weight, name))
    setattr(site.owner, site.parameter, hollow)


class Packed(WeightTransform):
    """The first link of a chain: where the weight is. What it is given is not looked at."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.axes = {}
        self.scales: torch.Tensor
        codes, self.state = _library().quantize_4bit(weight.detach(), blocksize=BLOCK, quant_type="nf4")
        self.register_buffer("codes", codes, persistent=False)
        # As bytes: an engine that works in bf16 converts every buffer of numbers, and scales are not to be rounded again.
        self.register_buffer("scales", self.state.absmax.view(torch.uint8), persistent=False)

    @torch.no_grad()
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight's values, in its own format."""
        self.state.absmax = self.scales.view(torch.float32)
        whole = _library().dequantize_4bit(self.codes, self.state)
        return whole.view(weight.shape).to(weight.dtype)


def _library() -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells which kernels it has not
    from bitsandbytes import functional

    return functional
