"""What makes a stage: where it starts, what it trains, on which losses, for how long."""

from dataclasses import dataclass, field


@dataclass
class CurriculumConfig:
    """Sources join level by level, when the newest ones are read well enough."""

    levels: list[list[str]] = field(
        default_factory=list
    )  # source names that each level adds; [] = all sources from the start
    advance_at: float = 0.85  # held-out next-token accuracy on the newest source
    max_steps: int = 1000  # steps in one level, after which the next begins regardless


@dataclass
class ObjectiveConfig:
    """Weights of the losses that are added to next-token cross-entropy (weight 1)."""

    patch_glyphs: float = 0.0  # glyph map, predicted from each patch of the windowed branch
    token_glyphs: float = 0.0  # glyph map, predicted from each vision token
    input_noise: float = 0.0  # share of the text tokens that the decoder is shown wrongly while it trains


@dataclass
class WeightDecompositionConfig:
    """How far training moves weights, by length and by direction of their rows (train/weight_decomposition)."""

    every: int = 0  # steps between looks; 0: none
    targets: list[str] = field(
        default_factory=lambda: ["attention"]
    )  # weights that are looked at: groups or patterns (train/targets.py)


@dataclass
class StageConfig:
    """What makes a stage: where it starts, what it trains, on which losses, for how long."""

    name: str = "pretrain"
    steps: int = 1000
    start_from: str | None = None  # checkpoint folder whose weights are the start
    frozen: list[str] = field(default_factory=list)  # prefixes of module names that stay as they are
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    checkpoint_every: int = 200  # steps
    evaluate_every: int = 200  # steps
    keep_checkpoints: int = 2
    save_in_background: bool = True  # files are written while training goes on
    save_base: bool = (
        True  # false: checkpoints hold what was added alone, and name stage.start_from's for the rest
    )
    evaluation_pages: int = 64  # held-out pages of each source in an evaluation during training
    weight_decomposition: WeightDecompositionConfig = field(default_factory=WeightDecompositionConfig)
