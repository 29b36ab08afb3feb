"""What looks at each step of a run from beside it: the model, its speed, memory, health and stragglers, checksums, a profile."""

from collections.abc import Callable, Sequence
from pathlib import Path
from socket import gethostname

import torch.distributed as dist

from data_pipeline.stream import Stream
from parallel.clock import ComputeClock
from parallel.topology import environment
from train.config import Config
from train.observe.checksums import Checksums
from train.observe.health import Health
from train.observe.history import History
from train.observe.memory import Memory
from train.observe.mfu import utilization
from train.observe.observer import Observer
from train.observe.of_model import of_model
from train.observe.profile import Profile
from train.observe.ranks import Part, Ranks
from train.observe.stragglers import Stragglers
from train.observe.throughput import Throughput
from train.saver import Saver


def observers_of(
    config: Config,
    saver: Saver,
    stream: Stream,
    history: History,
    counted: Callable[[], float],
    folder: Path,
) -> list[Observer]:
    """On every rank. counted: seconds of the steps that the run has done so far."""
    engine, every, (rank, world, _) = saver.engine, config.logger.checksums_every, environment()
    parts: Sequence[Part] = [
        Stragglers(ComputeClock(engine.module), engine.topology, config.engine.zero, nodes(), saver.say),
        Memory(),
        Health(history, counted, stream, saver, engine.topology),
        *utilization(config, engine.topology, folder, saver.say),
    ]
    return [
        *of_model(config.logger, engine, saver.say),
        *([Checksums(engine, folder, every, writes=rank == 0)] if every else []),
        Throughput(world),
        Ranks(parts),
        *([Profile(config.profile, folder, rank, saver.say)] if config.profile.steps else []),
    ]


def nodes() -> list[str]:
    """The machines' names, by rank."""
    found = [""] * dist.get_world_size()
    dist.all_gather_object(found, gethostname())
    return found
