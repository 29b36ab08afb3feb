"""What makes a model smaller: rounding, masks, a teacher."""

from dataclasses import dataclass, field


@dataclass
class QuantizeConfig:
    """Quantization-aware training: weights, and what they are multiplied with, are rounded as they will be stored."""

    bits: int = 0  # of a weight: 2, 3, 4 or 8; 0 for none
    numbers: str = "int"  # "int" | "fp8" (8 bits as e4m3)
    group: int = 32  # inputs that share a scale; 0: one scale for each output
    symmetric: bool = True
    activation_bits: int = 0  # of what is multiplied with a weight, a scale for each position: 8; 0 for none
    scales: str = "dynamic"  # "dynamic" (from the weights, at each step) | "learned"
    targets: list[str] = field(default_factory=lambda: ["attention", "dense", "shared_experts", "experts"])


@dataclass
class PruneConfig:
    """Weights that are held at zero: a mask, made from the weights that a stage starts with."""

    kind: str = "none"  # "none" | "magnitude" | "wanda" (arXiv 2306.11695)
    sparsity: float = 0.5  # share of zeros of each output's weights
    pattern: str = "free"  # "free" | "2:4" (two of four neighbours)
    batches: int = 8  # micro-batches that wanda looks at
    targets: list[str] = field(default_factory=lambda: ["attention", "dense", "shared_experts", "experts"])


@dataclass
class DistillConfig:
    """A teacher whose predictions and features a student is drawn to, beside the text's own tokens."""

    teacher: str | None = None  # run or checkpoint of the teacher; null for none
    teacher_modes: list[str] = field(
        default_factory=list
    )  # resolutions the teacher reads the same pages at; [] = the student's
    cache: str | None = (
        None  # folder of shards with a teacher's predictions, in the place of a teacher that runs along
    )
    divergence: str = "forward_kl"  # "forward_kl" | "reverse_kl" | "jsd"
    mixture: float = 0.5  # jsd: share of the teacher in the distribution that both are compared with
    temperature: float = 1.0  # of both distributions; the divergence is multiplied by its square
    top_k: int = 0  # predictions of the teacher that count, the rest as one; 0 for all
    weight: float = 0.0  # of the divergence
    next_token: float = 1.0  # of the text's own tokens
    hidden: float = 0.0  # of the distance between the decoders' last hidden states
    features: float = 0.0  # of the distance between the encoders' vision tokens
    distance: str = "mse"  # of hidden states and vision tokens: "mse" | "cosine"
