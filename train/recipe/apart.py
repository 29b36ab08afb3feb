"""Steps that are commands of their own, each in one process that knows nothing of the recipe's ranks."""

import os
import shutil
import subprocess
import sys

from conf.errors import ConfigError
from train.recipe.step import Step

OF_RANKS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_LOCALID",
)


def run_apart(step: Step) -> None:
    """Runs the command and lets it speak for itself. What an earlier call left of its output goes first: it is written whole
    or not at all, and is not what the ledger calls done. Raises ConfigError where the command fails.
    """
    target = step.output.parent if step.output.name == "checkpoints" else step.output
    shutil.rmtree(target, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name not in OF_RANKS}
    ended = subprocess.run([sys.executable, "-m", *step.command], env=environment, check=False)
    if ended.returncode:
        raise ConfigError(
            f"step {step.name}: python -m {' '.join(step.command)} ended with code {ended.returncode}, see above."
        )
