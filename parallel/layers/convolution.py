"""Convolutions with a place for a chain of transforms; whole on every rank."""

from collections.abc import Iterator

import torch

from parallel.layers.site import Site
from parallel.layers.transform import Transformable


class Convolution(Transformable, torch.nn.Conv2d):
    """torch's convolution over feature maps."""

    def sites(self) -> Iterator[Site]:
        """Its one kernel."""
        yield Site(self, kind="convolution")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[V, channels, G, G] -> [V, features, G', G']."""
        return self._conv_forward(x, self.used(), self.bias)
