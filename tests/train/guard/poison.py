"""Faults of single samples, put into the objective of a rank before it becomes `python -m train`; the product knows none."""

import math
from collections.abc import Callable, Collection
from typing import Any

Spoil = Callable[[Any], Any]  # a StageOutput, spoiled


def poison(spoil: Spoil, steps: Collection[int], worst: int = 0, times: float = math.inf) -> None:
    """Spoils this rank's micro-batch number `worst` in steps of these numbers, counted from the start of the process, as often
    as it is computed, but at most `times` times a step: once is a passing fault of the machine."""
    from parallel.engine import Engine

    begin, train_step = Engine.__init__, Engine.train_step
    at = {"step": 0, "number": 0, "done": 0, "spoiled": None}

    def wrapped_step(self: Any, batches: Any, *args: Any) -> Any:
        at.update(step=at["step"] + 1, done=0, spoiled=batches[worst].keys)
        return train_step(self, batches, *args)

    def wrapped_begin(self: Any, module: Any, groups: Any, optimizer: Any, objective: Any, *args: Any) -> None:
        def spoiled(module: Any, batch: Any, normalizers: Any) -> Any:
            output = objective(module, batch, normalizers)
            if at["step"] in steps and batch.keys == at["spoiled"] and at["done"] < times:
                at["done"] += 1
                return spoil(output)
            return output

        begin(self, module, groups, optimizer, spoiled, *args)

    Engine.__init__, Engine.train_step = wrapped_begin, wrapped_step  # type: ignore[method-assign]


def loss(output: Any) -> Any:
    """A loss that is not a number."""
    output.loss = output.loss * math.nan
    return output


def gradient(output: Any) -> Any:
    """A finite loss whose gradient is infinite; pieces of a pipeline without one stay as they are."""
    if output.loss.requires_grad:
        output.loss.register_hook(lambda gradient: gradient * math.inf)
    return output


def larger(factor: float, output: Any) -> Any:
    """A loss `factor` times as large, and so is its gradient."""
    output.loss = output.loss * factor
    return output
