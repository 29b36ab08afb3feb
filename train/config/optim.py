"""How weights begin, and how they are moved."""

from dataclasses import dataclass, field


@dataclass
class OptimConfig:
    """The optimizer and the learning-rate schedule (linear warm-up, then `schedule`)."""

    name: str = "adamw"  # "adamw" | "muon" | "lion" | "adafactor" | "adamw_8bit" | "lion_8bit" | "schedule_free" | "galore" | "lomo"
    lr: float = 4e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.05
    eps: float = 1e-8
    warmup_steps: int = 50
    schedule: str = "cosine"  # "cosine" | "step" | "constant"
    final_fraction: float = 0.05  # of `lr`, at the end of the cosine
    step_milestones: list[float] = field(
        default_factory=lambda: [0.6, 0.9]
    )  # fractions of the run; schedule=step
    step_factor: float = 0.316  # `lr` is multiplied by this at each milestone; schedule=step
    momentum: float = 0.95  # of hidden matrices; muon
    newton_schulz_steps: int = 5  # of the iteration that makes a matrix orthogonal; muon
    beta2_decay: float = (
        -0.8
    )  # power of the step's number that a gradient weighs in second moments; adafactor
    update_clip: float = 1.0  # largest size of an update, root of mean squares; adafactor
    rank: int = 128  # directions of each hidden matrix's gradient; galore
    refresh_every: int = 200  # steps between searches for new directions; galore
    scale: float = 0.25  # of an update that goes back from those directions; galore


@dataclass
class InitConfig:
    """First weights of matrices, kernels and embeddings. Norms begin at one, biases and relative positions at zero."""

    kind: str = "scaled"  # "scaled" (sqrt(0.5 / inputs)) | "normal" (`std`) | "kaiming" | "xavier" (both normal, of the layers alone)
    std: float = 0.02  # kind=normal
    residual: str = "zero"  # last matrix of each block: "zero" | "scaled" (over sqrt(2 x layers)) | "depth" (over sqrt(2 x the layer's number)) | "plain"
