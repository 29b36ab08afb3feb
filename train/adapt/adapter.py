"""Bottleneck adapters (Houlsby et al., arXiv 1902.00751): a small network behind each attention and each feed-forward.

Shapes: L positions of this rank, B rows, D width, W features of the bottleneck.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import Linear, Module

ADAPTERS = ("attention_adapter", "feed_adapter")  # children of a layer


class Adapter(Module):
    """x + up(gelu(down(x))). It begins as the identity, because `up` begins at zero.

    Every tensor rank holds it whole; under sequence parallelism each applies it to its own positions, and the engine adds
    up what they make of its gradient.
    """

    def __init__(self, config: TransformerConfig, width: int) -> None:
        super().__init__(config)
        self.down = Linear(config, config.hidden_size, width)
        self.up = Linear(config, width, config.hidden_size)
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x_LBD: torch.Tensor) -> torch.Tensor:
        """[L, B, D] -> [L, B, D]."""
        return x_LBD + self.up(F.gelu(self.down(x_LBD)))


def put_adapters(layer: Any, name: str, width: int, targets: Collection[str]) -> None:
    """Adapters in one decoder layer, on what its attention and its feed-forward make, before that is added to the residual
    stream, as in the paper. name: the layer's, in the whole model. targets: names of layers in the whole model; each part
    that holds one of them gets an adapter.

    megatron-core adds in the layer's own forward, between which and its parts stands only a hook of theirs.
    """
    for own, part in zip(ADAPTERS, ("self_attention", "mlp"), strict=True):
        if any(target.startswith(f"{name}.{part}.") for target in targets):
            adapter = Adapter(layer.config, width)
            layer.add_module(own, adapter)
            getattr(layer, part).register_forward_hook(partial(_through, adapter))


def _through(
    adapter: Adapter, part: torch.nn.Module, inputs: object, output: tuple[torch.Tensor, torch.Tensor | None]
) -> tuple[torch.Tensor, None]:
    out, bias = output
    assert bias is None, "the decoder's projections have no bias that is added later"
    return adapter(out), None
