"""What fine-tuning adds and trains."""

from dataclasses import dataclass, field

LOW_RANK = ("lora", "dora")  # kinds of tuning
ADDING = ("adapter", "prefix", "prompt", "p_tuning", "p_tuning_v2")


@dataclass
class TuneConfig:
    """What fine-tuning trains in the place of the whole model. The files of `conf/tune/` differ in numbers only."""

    kind: str = "none"  # "none" (stage.frozen decides) | "full" | "lora" | "dora" | "adapter" | "prefix" | "prompt" | "p_tuning" | "p_tuning_v2" | "selective"
    targets: list[str] = field(
        default_factory=lambda: ["attention", "dense", "shared_experts", "experts"]
    )  # layers with low-rank factors, or adapters behind them: groups or patterns (train/targets.py)
    rank: int = 16  # of low-rank factors
    ranks: dict[str, int] = field(default_factory=dict)  # a group or pattern of targets: its own rank
    alpha: float = 32.0  # what low-rank factors add is scaled by alpha / rank
    rank_stabilised: bool = False  # by alpha / sqrt(rank) instead (arXiv 2312.03732)
    dropout: float = 0.0  # of what low-rank factors read; dense layers alone
    base: str = "as_is"  # how the weights that stay are stored: "as_is" | "nf4" (QLoRA)
    width: int = 64  # hidden features of an adapter, of the network that makes a prompt or a prefix
    tokens: int = 16  # learned positions: of a prompt, of a prefix in every layer
    train: list[str] = field(
        default_factory=list
    )  # patterns of the model's own parameters that train as well, such as [decoder.*norm*]

    @property
    def has_factors(self) -> bool:
        """Whether low-rank factors are put around weights; they can be worked into them."""
        return self.kind in LOW_RANK

    @property
    def has_modules(self) -> bool:
        """Whether modules are put beside the weights, which are part of none and stay beside them."""
        return self.kind in ADDING

    @property
    def reserved(self) -> int:
        """Positions of a row that each sample gives to a prompt."""
        return self.tokens if self.kind in ("prompt", "p_tuning") else 0
