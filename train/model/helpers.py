"""What one stage trains beside the model and no later one needs: maps from a student's widths to its teacher's.

A checkpoint holds them below "helpers.", which is passed over when a model is read from it (parallel.snapshot). Source of the
maps: FitNets (arXiv 1412.6550). Shapes: N labelled positions, V views, F vision tokens a side, D the student's width, E its
teacher's.
"""

from typing import Any

from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import Linear, Module


class Helpers(Module):
    """hidden, features: with a map of the last hidden states, of the vision tokens; as they are without."""

    def __init__(self, config: TransformerConfig, width: int, teacher: int, hidden: bool, features: bool) -> None:
        super().__init__(config)
        self.hidden = Linear(config, width, teacher) if hidden else None
        self.features = Linear(config, width, teacher) if features else None

    def forward(self, output: Any) -> Any:
        """A ModelOutput with `labelled.rows` [N, D] -> [N, E] and `vision` [V, F * F, D] -> [V, F * F, E], as far as they are
        there."""
        if self.hidden is not None and output.labelled.rows is not None:
            output = output._replace(labelled=output.labelled._replace(rows=self.hidden(output.labelled.rows)))
        if self.features is not None and output.vision is not None:
            output = output._replace(vision=tuple(self.features(stack) for stack in output.vision))
        return output
