"""The observers of a run's speed, memory, health and stragglers, from its parts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from socket import gethostname

import torch.distributed as dist

from data_pipeline.stream import Stream
from parallel.clock import ComputeClock
from parallel.topology import environment
from train.config import Config
from train.observe.health import Health
from train.observe.history import History
from train.observe.memory import Memory
from train.observe.mfu import utilization
from train.observe.observer import Observer
from train.observe.profile import Profile
from train.observe.ranks import Part, Ranks
from train.observe.stragglers import Stragglers
from train.observe.throughput import Throughput
from train.saver import Saver


def run_watchers(
    config: Config,
    saver: Saver,
    stream: Stream,
    history: History,
    counted: Callable[[], float],
    folder: Path,
) -> list[Observer]:
    """On every rank. counted: seconds of the steps that the run has done so far."""
    engine, (rank, world, _) = saver.engine, environment()
    parts: Sequence[Part] = [
        Stragglers(ComputeClock(engine.module), engine.topology, config.engine.zero, nodes(), saver.say),
        Memory(),
        Health(history, counted, stream, saver, engine.topology),
        *utilization(config, engine.topology, folder, saver.say),
    ]
    observers: list[Observer] = [Throughput(world), Ranks(parts)]
    return [*observers, Profile(config.profile, folder, rank, saver.say)] if config.profile.steps else observers


def nodes() -> list[str]:
    """The machines' names, by rank."""
    found = [""] * dist.get_world_size()
    dist.all_gather_object(found, gethostname())
    return found
