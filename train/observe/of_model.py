"""The observers of what the model does: its loss told apart, its experts, its gradients. How often: `logger.details_every`."""

from collections.abc import Callable

from parallel.engine import Engine
from parallel.magnitudes import can_measure
from train.config import LoggerConfig
from train.observe.experts import Experts
from train.observe.gradients import Gradients
from train.observe.losses import Losses
from train.observe.observer import Observer


def of_model(logger: LoggerConfig, engine: Engine, note: Callable[[str], object]) -> list[Observer]:
    """None where `logger.details_every` is 0. note: says once what cannot be looked at."""
    every = logger.details_every
    if not every:
        return []
    observers: list[Observer] = [Losses(), Experts(engine.module, every)]
    if can_measure(engine.optimizer):
        return [*observers, Gradients(engine.module, engine.optimizer, every)]
    note("gradient norms by group are left out: this optimizer steps weights in the backward, where no gradient stays")
    return observers
