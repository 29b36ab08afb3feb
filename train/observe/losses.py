"""The loss told apart: by kind of sample, and by how many text tokens each vision token stands for."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.strata import COUNT, by_name
from train.objective.strata import NAME
from train.observe.observer import Look


class Losses:
    """In every step, from sums that the objective makes beside its own (`NextToken.strata`) and the engine adds up with them."""

    def before(self, step: int) -> None:
        """There is nothing to prepare."""

    def after(self, look: Look) -> Mapping[str, Any]:
        """loss/KIND and loss_at/COMPRESSION in nats a token, of those that the global batch has."""
        sums = [look.output.sums.get(f"{NAME}.{number}", 0.0) for number in range(2 * COUNT)]
        nats, tokens = by_name(sums[:COUNT]), by_name(sums[COUNT:])
        return {
            f"{prefix}/{name}": of_names[name] / count
            for prefix, of_names, counts in zip(("loss", "loss_at"), nats, tokens, strict=True)
            for name, count in counts.items()
            if count
        }

    def close(self) -> None:
        """There is nothing to end."""
