"""bitsandbytes' optimizers with states of 8 bits (Dettmers et al., arXiv 2110.02861): two bytes a weight for AdamW, not eight.

Every 256 states share a scale. They are states of a flat part, whichever weights those are, so that any ZeRO stage will do;
but a checkpoint of them is of one layout.
"""

from collections.abc import Iterator
from typing import Any

import bitsandbytes
import torch

from parallel.optimizer import EngineOptimizer


class EightBit(EngineOptimizer):
    """What both have in common: bitsandbytes does the update, this tells the engine of the states."""

    keeps_rank_states = True

    def create_states(self) -> None:
        """bitsandbytes' own, of zero. Parts below 4096 numbers get states of 32 bits."""
        for number, group in enumerate(self.param_groups):
            for place, flat in enumerate(group["params"]):
                self.init_state(group, flat, number, place)  # type: ignore[attr-defined]

    def rank_states(self) -> Iterator[tuple[str, torch.Tensor]]:
        """States of 8 bits and their scales; those of 32 bits are every weight's own."""
        for number, state in enumerate(self.state.values()):
            for name in ("state1", "absmax1", "state2", "absmax2"):
                if name in state and "qmap1" in state:
                    yield f"{number}.{name}", state[name]

    def counters(self) -> list[dict[str, Any]]:
        """None: the count of updates is all."""
        return []


class AdamW8Bit(EightBit, bitsandbytes.optim.AdamW8bit):
    """AdamW."""

    label = "adamw_8bit"


class Lion8Bit(EightBit, bitsandbytes.optim.Lion8bit):
    """Lion (arXiv 2302.06675)."""

    label = "lion_8bit"
