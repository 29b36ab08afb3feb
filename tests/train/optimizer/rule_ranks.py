"""Every rule through the engine, in launches of one and two ranks."""

from pathlib import Path
from typing import Any

STEPS, SAVED_AT = 6, 3
WHOLE = ("muon", "adafactor", "galore")
CASES = [
    *[(name, 1, "fp32") for name in ("adamw", "lion", "lion_8bit", *WHOLE)],
    *[(name, 2, "fp32") for name in ("muon", "galore", "adamw_8bit", "schedule_free")],
    ("lion", 3, "fp32"),
    ("lomo", 1, "fp32"),
    *[(name, 1, "bf16") for name in ("muon", "adafactor", "schedule_free")],
]


def engine_of(case: tuple[str, int, str], seed: int) -> Any:
    """An engine as a stage makes it, over the tiny decoder."""
    import tiny_decoder as tiny

    from parallel.engine import Engine, EngineOptions
    from parallel.topology import Topology, environment
    from tests.train.optimizer import oracles
    from train.optimizer import optimizer_of, parameter_groups

    name, zero, precision = case
    config = oracles.SETTINGS[name]
    module = tiny.build(seed=seed)
    groups = parameter_groups(module, oracles.DECAY, hidden_apart=name in ("muon", "galore"))
    options = EngineOptions(zero, precision, 0.0 if name == "lomo" else tiny.CLIP)
    return Engine(module, groups, optimizer_of(config), tiny.objective, Topology(data=environment()[1]), options)


def steps_of(engine: Any, name: str, first: int, last: int) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each."""
    import tiny_decoder as tiny

    from parallel.topology import environment
    from tests.train.optimizer import oracles

    rank, world, _ = environment()
    found = []
    for step in range(first, last):
        engine.set_learning_rate(oracles.rate(oracles.SETTINGS[name], step))
        output = engine.train_step(tiny.share(step, rank, world, 1 if name == "lomo" else 2))
        found.append((output.loss, output.grad_norm))
    return found


def all_rules(folder: Path) -> dict[str, Any]:
    """Each case: through all steps, looking at the stored weights on the way; and in two halves with a checkpoint between."""
    import tiny_decoder as tiny

    from parallel.topology import Topology, environment, start, stop

    rank, world, _ = environment()
    start(Topology(data=world), seed=1)
    found: dict[str, Any] = {}
    for case in CASES:
        name, root = case[0], folder / f"{world}" / "-".join(map(str, case))
        engine = engine_of(case, seed=0)
        through = steps_of(engine, name, 0, SAVED_AT)
        before = tiny.weights_of(engine.module)
        engine.eval_step(tiny.share(0, rank, world, 2))
        engine.save(root, SAVED_AT, {})
        after = tiny.weights_of(engine.module)
        through += steps_of(engine, name, SAVED_AT, STEPS)
        engine.close()
        weights = tiny.weights_of(engine.module)
        engine = engine_of(case, seed=7)
        engine.load(root)
        again = steps_of(engine, name, SAVED_AT, STEPS)
        bytes_kept = sum(
            value.nbytes for state in engine.optimizer.state.values() for value in state.values() if hasattr(value, "nbytes")
        )
        engine.close()
        ends = tiny.weights_of(engine.module)
        found["-".join(map(str, case))] = {
            "through": through, "again": again, "weights": weights, "bytes": bytes_kept,
            "same": all((ends[key] == weights[key]).all() for key in weights),
            "untouched": case[1] == 3 or all((before[key] == after[key]).all() for key in before),
        }  # fmt: skip
    stop()
    return found


def poisoned_and_counted() -> dict[str, Any]:
    """LOMO's steps where one rank's loss is not finite, and where there are two micro-batches."""
    import tiny_decoder as tiny
    import torch

    from parallel.errors import ParallelError
    from parallel.topology import Topology, environment, start, stop

    rank, world, _ = environment()
    start(Topology(data=world), seed=1)
    engine = engine_of(("lomo", 1, "fp32"), seed=0)
    clean, before = engine._objective, tiny.weights_of(engine.module)

    def spoiled(module: Any, batch: Any, normalizers: Any) -> Any:
        output = clean(module, batch, normalizers)
        output.loss = output.loss + (torch.nan if rank == 1 else 0.0)
        return output

    engine._objective = spoiled
    skipped = engine.train_step(tiny.share(0, rank, world, 1)).skipped
    same = all(torch.equal(value, before[key]) for key, value in tiny.weights_of(engine.module).items())
    engine._objective = clean
    after = steps_of(engine, "lomo", 0, 1)
    gradients = [param for param in engine.module.parameters() if param.grad is not None]
    try:
        engine.train_step(tiny.share(0, rank, world, 2))
    except ParallelError as error:
        told = str(error)
    stop()
    return {"skipped": skipped, "same": same, "after": after, "gradients": len(gradients), "told": told}


def on_one(folder: Path) -> dict[str, Any]:
    """Checkpoints that two ranks wrote, gone on with by one: what came of it, or why not."""
    from parallel.errors import CheckpointError
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=1)
    found: dict[str, Any] = {}
    for case in [case for case in CASES if case[2] == "fp32" and case[1] < 3]:
        engine = engine_of(case, seed=7)
        try:
            engine.load(folder / "2" / "-".join(map(str, case)))
            found["-".join(map(str, case))] = steps_of(engine, case[0], SAVED_AT, STEPS)
        except CheckpointError as error:
            found["-".join(map(str, case))] = str(error)
        engine.close()
    other = engine_of(("lion", 1, "fp32"), seed=7)
    try:
        other.load(folder / "2" / "muon-1-fp32")
    except CheckpointError as error:
        found["another rule"] = str(error)
    other.close()
    stop()
    return found
