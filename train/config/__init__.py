"""The settings of a training stage, as typed dataclasses: the schema behind `conf/`, one file a section.

Every value that a YAML file or an override may set is a field here, so that an unknown name or a wrong type
is refused while the configuration is composed. Values that are well typed but impossible are refused by
`train.validate`. Nothing here imports torch.
"""

from train.config.compress import DistillConfig, PruneConfig, QuantizeConfig
from train.config.config import Config
from train.config.guard import GuardConfig
from train.config.model import DecoderConfig, EncoderConfig, ModelConfig
from train.config.optim import InitConfig, OptimConfig
from train.config.parallel import EngineConfig, ParallelConfig
from train.config.recipe import RecipeConfig, StepConfig
from train.config.run import LoggerConfig, RunConfig
from train.config.stage import CurriculumConfig, ObjectiveConfig, StageConfig, WeightDecompositionConfig
from train.config.tune import ADDING, LOW_RANK, TuneConfig

__all__ = [
    "ADDING",
    "LOW_RANK",
    "Config",
    "CurriculumConfig",
    "DecoderConfig",
    "DistillConfig",
    "EncoderConfig",
    "EngineConfig",
    "GuardConfig",
    "InitConfig",
    "LoggerConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "ParallelConfig",
    "PruneConfig",
    "QuantizeConfig",
    "RecipeConfig",
    "RunConfig",
    "StageConfig",
    "StepConfig",
    "TuneConfig",
    "WeightDecompositionConfig",
]
