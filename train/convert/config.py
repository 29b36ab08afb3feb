"""The settings of `python -m train.convert`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from conf import rules
from conf.errors import ConfigError
from data_pipeline.errors import UserError
from train.find_run import locate

DTYPES = ("as_stored", "bf16", "fp32")
MODEL_TYPES = ("unlimited_ocr", "deepseek_vl_v2")  # transformers; the release's own code and vLLM


# What @dataclass generates by itself would spell out `from`, a keyword of Python.
@dataclass(init=False, repr=False, eq=False)
class ConvertConfig:
    """What is read, what is written, and how."""

    __annotations__ = {"from": str}  # a released folder, or a run folder, or one of its checkpoints
    locals()["from"] = MISSING
    to: str = MISSING  # the folder to write, which must not exist yet: a run folder, or a released one
    dtype: str = "as_stored"  # of the released tensors: "as_stored" | "bf16" | "fp32"
    shard_size: float = 5.0  # GB of a released file at most
    model_type: str | None = (
        None  # in config.json: unlimited_ocr (transformers), deepseek_vl_v2 (release, vLLM); null = as it came
    )

    def __init__(self, **settings: Any) -> None:
        for name, value in settings.items():
            setattr(self, name, value)

    @property
    def source(self) -> Path:
        """What `from` names."""
        return Path(getattr(self, "from"))


def check(config: ConvertConfig) -> None:
    """Refuses impossible values, a missing source and a target that is in use before anything is loaded."""
    if config.dtype not in DTYPES:
        raise ConfigError(f"dtype={config.dtype}: choose {', '.join(DTYPES)}")
    if config.model_type is not None and config.model_type not in MODEL_TYPES:
        raise ConfigError(f"model_type={config.model_type}: choose {', '.join(MODEL_TYPES)}")
    if config.shard_size <= 0:
        raise ConfigError(f"shard_size={config.shard_size}: must be above 0 (GB)")
    if not config.source.is_dir():
        raise ConfigError(f"from={config.source}: no such folder")
    if is_released(config.source):
        if config.dtype != "as_stored":
            raise ConfigError(
                f"dtype={config.dtype} is for writing released tensors; reading keeps theirs: leave it out (training has "
                "engine.precision)"
            )
    else:
        try:
            locate(config.source, "from")
        except UserError as error:
            raise ConfigError(f"{error}; nor are there released weights (*.safetensors)") from None
    for fault in rules.unused_folder("to", Path(config.to)):
        raise ConfigError(fault)


def is_released(folder: Path) -> bool:
    """Whether a folder holds released weights: safetensors files, or their index."""
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.safetensors.index.json"))
