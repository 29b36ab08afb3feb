"""Learned embeddings before each sample: as they are (prompt tuning, arXiv 2104.08691), or as what a small network makes of a
table (P-Tuning, arXiv 2103.10385).

Samples reserve the positions (`data_pipeline.spec.BatchSpec.reserved`), so that a prompt is read like any other part of
them: its positions count, labels and packed rows stay as they are.

Shapes: B rows, L positions, P positions of the prompt, D decoder width.
"""

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import Linear, Module


class Prompt(Module):
    """A prompt's embeddings [P, D], whole on every tensor rank."""

    def __init__(self, config: TransformerConfig, tokens: int) -> None:
        super().__init__(config)
        self.rows = torch.nn.Parameter(torch.empty(tokens, config.hidden_size, dtype=config.params_dtype))

    def forward(self, embedded_BLD: torch.Tensor, positions_BL: torch.Tensor) -> torch.Tensor:
        """The embeddings with the prompt at the first P positions of each sample, which begins where `positions` are 0."""
        return placed(self.rows, embedded_BLD, positions_BL)


class EncodedPrompt(Module):
    """A prompt that a network with two hidden layers makes of a table [P, D], as peft's PromptEncoder does."""

    def __init__(self, config: TransformerConfig, tokens: int, width: int) -> None:
        super().__init__(config)
        self.table = torch.nn.Parameter(torch.empty(tokens, config.hidden_size, dtype=config.params_dtype))
        self.first = Linear(config, config.hidden_size, width)
        self.second = Linear(config, width, width)
        self.third = Linear(config, width, config.hidden_size)

    def forward(self, embedded_BLD: torch.Tensor, positions_BL: torch.Tensor) -> torch.Tensor:
        """As of `Prompt`."""
        rows = self.third(F.relu(self.second(F.relu(self.first(self.table)))))
        return placed(rows, embedded_BLD, positions_BL)


def placed(rows_PD: torch.Tensor, embedded_BLD: torch.Tensor, positions_BL: torch.Tensor) -> torch.Tensor:
    """[B, L, D]: row p of the prompt where a position is p."""
    count = len(rows_PD)
    prompt_BLD = F.embedding(positions_BL.clamp(max=count - 1), rows_PD)
    return torch.where((positions_BL < count).unsqueeze(-1), prompt_BLD, embedded_BLD)
