"""Normalisations, marked for sequence parallelism, which splits their input over ranks and so their gradients
too.

megatron-core's own torch norm refuses sequence parallelism.
"""

import torch
from megatron.core.transformer.transformer_config import TransformerConfig


class Norm(torch.nn.RMSNorm):
    """The decoder's root-mean-square norm, in the signature megatron-core builds norms with."""

    returns_residual = False  # asked for by megatron-core 0.17 and later

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-6, **_: object) -> None:
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]


class LayerNorm(torch.nn.LayerNorm):
    """The encoder's norm over the last axis; the encoder never splits its sequence."""

    def __init__(self, config: TransformerConfig, width: int, eps: float) -> None:
        super().__init__(width, eps=eps, dtype=config.params_dtype)
