"""The engine's choices and which of them go together. Loads nothing heavy: a configuration is refused before torch."""

from dataclasses import dataclass

from parallel.errors import UnsupportedLayout
from parallel.topology import Topology

PRECISIONS = ("fp32", "bf16")
KEPT_WHOLE = 4096  # elements: weights up to this size, norms and biases, stay whole between their uses in stage 3


@dataclass(frozen=True)
class EngineOptions:
    """zero: what DeepSpeed splits over data parallel ranks: 1 optimizer states, 2 gradients too, 3 weights as well.

    precision: of weights and activations; gradients are summed and the optimizer works in fp32 either way.
    clip: largest norm of the whole gradient; 0 for no clipping. offload: the optimizer and its states on the host.
    """

    zero: int = 1
    precision: str = "fp32"
    clip: float = 1.0
    offload: bool = False


def check(topology: Topology, options: EngineOptions) -> None:
    """Raises UnsupportedLayout for every combination that is wrong, hangs, or has not been proved equal to one process."""
    topology.check()
    if options.precision not in PRECISIONS:
        raise UnsupportedLayout(
            f"engine.precision={options.precision}: choose engine.precision=fp32 or bf16."
        )
    if not options.clip >= 0:
        raise UnsupportedLayout(f"engine.clip={options.clip}: choose a norm above 0, or 0 for no clipping.")
    if options.zero not in (1, 2, 3):
        raise UnsupportedLayout(
            f"engine.zero={options.zero} is not supported: choose engine.zero=1 (or 2, which splits the gradients as "
            "well, or 3, the weights too). DeepSpeed's stage 0 clips wrongly in bf16 and with experts."
        )
    if options.zero > 1 and topology.pipeline > 1:
        raise UnsupportedLayout(
            f"engine.zero={options.zero} with parallel.pipeline={topology.pipeline} is not supported: DeepSpeed reduces "
            "gradients after every backward then, and the stages of a pipeline would wait for each other. Choose "
            "engine.zero=1 (or parallel.pipeline=1)."
        )
    if options.zero > 2 and topology.expert > 1:
        raise UnsupportedLayout(
            f"engine.zero={options.zero} with parallel.expert={topology.expert} is not supported: DeepSpeed splits weights "
            "only over ranks that hold the same ones. Choose engine.zero=2 (or parallel.expert=1)."
        )
