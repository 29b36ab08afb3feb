"""Where a run lives, and where its metrics go."""

from dataclasses import dataclass


@dataclass
class LoggerConfig:
    """Where metrics go besides `metrics.jsonl`."""

    wandb: str = "disabled"  # "offline" | "online" | "disabled"
    project: str = "microfiche"
    console_every: int = 20  # steps
    samples: int = 0  # held-out pages that are read and shown at each evaluation
    details_every: int = 50  # steps between looks at experts and gradients; 0 for none, nor losses by kind
    checksums_every: int = 0  # steps after which sums over all bits are written, for train.compare; 0 for never


@dataclass
class RunConfig:
    """Where a run lives and on what it runs."""

    name: str = "default"
    directory: str = "runs"  # the run's folder is DIRECTORY/NAME
    resume: bool = True  # continue from the newest valid checkpoint of this run, if there is one
    device: str = "auto"  # "auto" | "cpu" | "cuda"
    timeout: float = (
        600.0  # seconds without progress after which a run ends with an error, such as a hung peer
    )
