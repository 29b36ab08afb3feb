"""The settings of `python -m train.relay`."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from conf.errors import ConfigError
from train.monitor.wandb_id import WANDB_ID

MODES = ("online", "offline")


@dataclass
class RelayConfig:
    """Which run wandb is given, and how."""

    run: str = MISSING  # the folder of a stage's run
    mode: str = "online"  # "online" (offline where its server cannot be reached) | "offline"
    project: str = "microfiche"
    attempt: int = 1  # it starts itself again, a few times, when wandb's service has ended


def check(config: RelayConfig) -> None:
    """Raises ConfigError for a folder without a run, and for a mode that there is not."""
    folder = Path(config.run)
    if not any((folder / name).exists() for name in ("metrics.jsonl", WANDB_ID)):
        raise ConfigError(
            f"run={config.run}: holds no metrics.jsonl; give the folder of a stage, for example run=runs/smoke/pretrain"
        )
    if config.mode not in MODES:
        raise ConfigError(f"mode={config.mode}: choose one of {', '.join(MODES)}")
