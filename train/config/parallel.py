"""How a model and its step are spread over processes."""

from dataclasses import dataclass, field


@dataclass
class ParallelConfig:
    """How one replica of the model is split over processes; the data-parallel size is what remains of the
    world.
    """

    tensor: int = 1  # ways a matrix is split
    pipeline: int = 1  # stages that the model is cut into, one after the other
    expert: int = 1  # ways the experts of a layer are shared out, over tensor and data ranks
    sequence: bool = (
        True  # tensor ranks also share out the positions wherever matrices are whole; experts need it
    )
    virtual: int = 1  # pieces of each pipeline stage, worked on in turn; above 1: the interleaved schedule
    encoder_stages: int = (
        0  # pipeline stages of the encoder's own: 0 none (it shares the first one), 1, or 2 as in the paper
    )
    decoder_layers: list[int] = field(
        default_factory=list
    )  # layers of each stage that holds some; [] = as even as can be
    encoder: str = "auto"  # over tensor ranks: "split" | "replicate" | "auto" (split where the heads divide)


@dataclass
class EngineConfig:
    """How a step is computed: ZeRO stage, number format, clipping, and what is traded for memory."""

    zero: int = 1  # what is split over data ranks: 1 optimizer state, 2 and gradients, 3 and weights
    precision: str = "fp32"  # "fp32" | "bf16" (gradients are accumulated in fp32 either way)
    clip: float = 1.0  # largest global gradient norm; 0 turns clipping off
    offload: bool = False  # optimizer state and its update on the host
    recompute: str = (
        "none"  # activations computed again in backward: "none" | "selective" (feed-forwards) | "full"
    )
