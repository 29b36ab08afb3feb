"""Everything that `python -m train` needs to know, in sections."""

from dataclasses import dataclass, field

from data_pipeline.data_config import DataConfig
from train.config.compress import DistillConfig, PruneConfig, QuantizeConfig
from train.config.guard import GuardConfig
from train.config.model import ModelConfig
from train.config.optim import InitConfig, OptimConfig
from train.config.parallel import EngineConfig, ParallelConfig
from train.config.profile import ProfileConfig
from train.config.run import LoggerConfig, RunConfig
from train.config.stage import StageConfig
from train.config.tune import TuneConfig


@dataclass
class Config:
    """Everything `python -m train` needs to know."""

    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    data: DataConfig = field(default_factory=DataConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    seed: int = 0
    deterministic: bool = False  # whether another run of the same configuration gives the same numbers on a GPU, too, bit by bit
    resume: str | None = (
        None  # run or checkpoint folder to go on from, in any layout: weights, optimizer, place in the data
    )
    overrides: list[str] = field(
        default_factory=list
    )  # the overrides that made this configuration; filled in when it is composed
