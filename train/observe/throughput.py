"""How much a step reads, a second and a day. Every figure is of the step alone, evaluations and saves left out."""

from collections.abc import Mapping
from typing import Any

from train.observe.observer import Look

DAY = 86400


class Throughput:
    """world: devices."""

    def __init__(self, world: int) -> None:
        self._world = world

    def before(self, step: int) -> None:
        """Nothing to do."""

    def after(self, look: Look) -> Mapping[str, Any]:
        """Rates of the global batch. Vision tokens: positions of the decoder that pages take; text: tokens with a loss."""
        vision, text = look.output.counts["vision_tokens"], look.output.weights["tokens"]
        both = (vision + text) / look.seconds
        return {
            "vision_tokens_per_second": vision / look.seconds,
            "tokens_per_second_per_device": both / self._world,
            "multimodal_tokens_per_day": both * DAY,
        }

    def close(self) -> None:
        """Nothing to do."""
