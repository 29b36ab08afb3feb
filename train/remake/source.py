"""The run that another one is made of. Loads no torch: a missing one is told before anything starts."""

from pathlib import Path

from conf.errors import ConfigError
from data_pipeline.errors import UserError
from train.config import Config
from train.find_run import locate, read_config
from train.validate.files import checkpoints_in


def source_run(option: str, path: Path) -> Config:
    """The configuration of the run in `path`, which the user typed for `option`. Raises ConfigError where there is none, or
    none that has saved.
    """
    try:
        found = locate(path, option)
        run = read_config(found.folder / "config.yaml")
    except UserError as error:
        raise ConfigError(str(error)) from error
    if not checkpoints_in(found.checkpoints):
        raise ConfigError(
            f"{option}={path}: no checkpoint there (no folder step-00000120). Give a run that has saved."
        )
    return run
