"""The real model on real pages, stepped by rules on whole matrices in layouts of four ranks, where groups of experts and
stages without a group come together."""

import os
from pathlib import Path
from typing import Any

STEPS, SAVED_AT = 4, 2
RULES = ("muon", "adafactor", "galore", "schedule_free")
LAYOUTS: dict[str, Any] = {
    "tensor 2 x data 2, ZeRO-2": {"tensor": 2, "zero": 2, "data": 2},
    "pipeline 2 x expert 2": {"pipeline": 2, "expert": 2, "data": 2},
    "tensor 2 x expert 2 x data 2": {"tensor": 2, "expert": 2, "data": 2},
}


def play(layouts: dict[str, Any], ports: list[int], folder: Path, resumed: bool) -> dict[tuple[str, str], Any]:
    """(layout, rule) -> losses; and whether a resumed run repeats them to the last bit."""
    from layouts import Case

    from parallel.topology import start, stop

    found = {}
    for (name, sizes), port in zip(layouts.items(), ports):
        os.environ["MASTER_PORT"] = str(port)
        engine = {"zero": sizes.get("zero", 1)}
        split = {key: value for key, value in sizes.items() if key not in ("zero", "data")}
        case = Case(split, data=sizes.get("data", 1), engine=engine)
        start(case.topology(), seed=0)
        for rule in RULES:
            found[name, rule] = one(case, rule, folder, folder / f"{name}-{rule}", resumed)
        stop()
    return found


def one(case: Any, rule: str, pages: Path, saved: Path, resumed: bool) -> tuple[list[float], bool]:
    """(losses, whether the resumed run's are the same) of one rule in one layout."""
    from layouts import shares

    batches = shares(pages, case)[:STEPS]
    engine = engine_of(case, rule, 1)
    losses = [engine.train_step(own).loss for own in batches[:SAVED_AT]]
    if resumed:
        engine.save(saved, SAVED_AT, {})
    losses += [engine.train_step(own).loss for own in batches[SAVED_AT:]]
    engine.close()
    if not resumed:
        return losses, True
    engine = engine_of(case, rule, 2)
    engine.load(saved)
    again = [engine.train_step(own).loss for own in batches[SAVED_AT:]]
    engine.close()
    return losses, again == losses[SAVED_AT:]


def descent(sizes: dict[str, int], data: int, rule: str, pages: Path) -> list[tuple[float, float]]:
    """(loss, gradient norm) of steps of gradient descent: in the backward ("lomo"), or by torch's SGD through ZeRO."""
    import torch
    from layouts import Case, built, objective, shares

    from parallel.engine import Engine
    from parallel.options import EngineOptions
    from parallel.topology import start, stop
    from train.config import OptimConfig
    from train.optimizer import optimizer_of, parameter_groups

    case = Case(sizes, data=data)
    start(case.topology(), seed=0)
    module = built(case)
    make = optimizer_of(OptimConfig(name="lomo", lr=0.02)) if rule == "lomo" else lambda own: torch.optim.SGD(own, lr=0.02)
    engine = Engine(module, parameter_groups(module, 0.1), make, objective(), case.topology(), EngineOptions(clip=0.0))
    outputs = [engine.train_step(own) for own in shares(pages, case)[:STEPS]]
    engine.close()
    stop()
    return [(output.loss, output.grad_norm) for output in outputs]


def engine_of(case: Any, rule: str, seed: int) -> Any:
    """As a stage makes it."""
    from layouts import built, objective

    from parallel.engine import Engine
    from parallel.options import EngineOptions
    from tests.train.optimizer import oracles
    from train.optimizer import groups_of, optimizer_of

    config, module = oracles.SETTINGS[rule], built(case, seed=seed)
    options = EngineOptions(clip=0.5, **case.engine)
    engine = Engine(module, groups_of(module, config), optimizer_of(config), objective(), case.topology(), options)
    engine.set_learning_rate(config.lr)
    return engine
