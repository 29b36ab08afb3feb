"""`python -m train.compare RUN RUN`: the first step and tensor at which two runs part."""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from conf import rules
from conf.command import run
from conf.errors import ConfigError
from train.compare.command import compare, told
from train.run_folder import plain, write_json

DESCRIPTION = """Compares two runs bit by bit: their settings, the numbers that they logged step by step, the sums over the bits of their tensors
where they wrote some (logger.checksums_every=1), and their checkpoints of equal steps, whatever the layouts. Says at which step and in
which tensor they part, and what that tells. Exit code 0: equal as far as both go; 1: parted; 2: there is nothing to compare."""
EXAMPLES = (
    "python -m train.compare runs/a runs/b",
    "python -m train stage=encoder deterministic=true logger.checksums_every=1 run.name=a    # and again with run.name=b",
    "python -m train.compare runs/one_process runs/four rtol=1e-4      # layouts round differently",
    "python -m train.compare runs/a runs/b checkpoints=false json=parted.json",
)


@dataclass
class CompareConfig:
    """Which runs, and how closely they are looked at."""

    a: str = (
        MISSING  # the first argument: folder of a run, or of a recipe, whose newest finished stage is taken
    )
    b: str = MISSING  # the second argument
    rtol: float = 0.0  # relative difference that counts as none; 0 compares bits
    checkpoints: bool = True  # read checkpoints of equal steps, too
    json: str | None = None  # file that gets the whole result


def check(config: CompareConfig) -> None:
    """Raises ConfigError for a tolerance that is none."""
    for fault in rules.at_least("rtol", config.rtol, 0):
        raise ConfigError(fault)


def main(config: CompareConfig) -> int:
    """Tells what was found; 1 where the runs part."""
    found = compare(Path(config.a), Path(config.b), config.rtol, config.checkpoints)
    print("\n".join(told(found)))
    if config.json:
        write_json(Path(config.json), plain(found.to_json()))
    return 0 if found.equal else 1


if __name__ == "__main__":
    sys.exit(run(main, "compare", CompareConfig, None, DESCRIPTION, EXAMPLES, check, positional=("a", "b")))
