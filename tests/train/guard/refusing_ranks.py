"""Steps that are not made, at every ZeRO stage, in every kind of layout and with several optimizers: what is left of them."""

import math
import os
from typing import Any

LAYOUTS: dict[str, dict[str, int]] = {
    "data": {"data": 2},
    "pipeline": {"pipeline": 2},
    "expert": {"data": 2, "expert": 2},
    "tensor": {"tensor": 2},
}
CASES = [  # layout, optimizer, ZeRO stage, precision
    *[("data", "adamw", zero, precision) for zero in (1, 2) for precision in ("fp32", "bf16")],
    ("data", "adamw", 3, "bf16"),
    *[("data", name, 1, "fp32") for name in ("muon", "galore", "lomo")],
    *[("data", name, 2, "fp32") for name in ("adamw_8bit", "schedule_free")],
    ("pipeline", "adamw", 1, "bf16"),
    ("expert", "adamw", 1, "fp32"),
    ("expert", "adamw", 2, "fp32"),
    ("tensor", "adamw", 1, "fp32"),
]
BAD = ("loss", "gradient", "refused loss", "refused norm")


def all_cases(ports: list[int]) -> dict[str, Any]:
    """What this rank saw in each case."""
    from parallel.topology import Topology, start, stop

    found = {}
    for port, (layout, sizes) in zip(ports, LAYOUTS.items()):
        os.environ["MASTER_PORT"] = str(port)
        topology = Topology(**sizes)
        start(topology, seed=0)
        for case in [case for case in CASES if case[0] == layout]:
            found["-".join(map(str, case))] = around_bad_steps(case, topology)
        stop()
    return found


def around_bad_steps(case: tuple[str, str, int, str], topology: Any) -> dict[str, Any]:
    """A run with bad steps in it, beside one without."""
    import torch

    from parallel.topology import environment

    rank = environment()[0]
    poison, asked, lomo = {"kind": ""}, [], case[1] == "lomo"
    engine, clean = engine_of(case, topology, poison), engine_of(case, topology, {"kind": ""})
    shares = [batches_of(step, topology, lomo) for step in range(3)]
    for each in (engine, clean):
        each.train_step(shares[0])

    def accepts(name: str, value: float) -> bool:
        asked.append((name, value))
        return rank != 1 or poison["kind"] != {"loss": "refused loss", "grad_norm": "refused norm"}[name]

    skipped, unchanged, numbers, own, again = {}, {}, {}, {}, {}
    for kind in BAD[: 2 if lomo else 4]:
        poison["kind"] = kind
        before = tensors_of(engine)
        output = engine.train_step(shares[1], None, None if lomo else accepts)
        skipped[kind], numbers[kind] = output.skipped, (output.loss, output.grad_norm)
        own[kind] = [math.isfinite(loss) for loss in engine.own_losses()]
        if kind in ("loss", "gradient"):
            rerun = engine.rerun(shares[1], gradients=kind == "gradient")
            again[kind] = [math.isfinite(loss) for loss in rerun.losses], rerun.gradients
        unchanged[kind] = all(map(torch.equal, before, tensors_of(engine)))
    poison["kind"] = ""
    after = [each.train_step(shares[2], None, None if lomo else lambda *_: True) for each in (engine, clean)]
    equal = after[0] == after[1] and all(map(torch.equal, tensors_of(engine), tensors_of(clean)))
    for each in (engine, clean):
        each.close()
    return {
        "skipped": skipped, "unchanged": unchanged, "numbers": numbers, "own": own, "again": again, "asked": asked,
        "equal": equal, "after": after[0].grad_norm,
    }  # fmt: skip


def engine_of(case: tuple[str, str, int, str], topology: Any, poison: dict[str, str]) -> Any:
    """Over the tiny decoder. The second micro-batch of rank 1, or the only one, is poisoned."""
    import tiny_decoder as tiny
    import torch

    from parallel.engine import Engine, EngineOptions
    from parallel.topology import environment
    from tests.train.optimizer import oracles
    from train.optimizer import optimizer_of, parameter_groups

    _, name, zero, precision = case
    calls = [0]

    def objective(module: Any, batch: Any, normalizers: Any) -> Any:
        output = tiny.objective(module, batch, normalizers)
        calls[0] += 1
        if environment()[0] == 1 and (name == "lomo" or calls[0] % 2 == 0):
            if poison["kind"] == "loss":
                output.loss = output.loss * math.nan
            elif poison["kind"] == "gradient" and output.loss.requires_grad:
                output.loss.register_hook(lambda gradient: gradient * math.inf)
        return output

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    module = tiny.build(layers=2, topology=topology, dtype=dtype)
    groups = parameter_groups(module, oracles.DECAY, hidden_apart=name in ("muon", "galore"))
    options = EngineOptions(zero, precision, 0.0 if name == "lomo" else tiny.CLIP)
    engine = Engine(module, groups, optimizer_of(oracles.SETTINGS[name]), objective, topology, options)
    engine.set_learning_rate(oracles.rate(oracles.SETTINGS[name], 1))
    return engine


def batches_of(step: int, topology: Any, whole: bool) -> list[Any]:
    """This rank's micro-batches."""
    import tiny_decoder as tiny

    from parallel.topology import environment

    rank = environment()[0] if topology.data > 1 else 0
    return tiny.share(step, rank, topology.data, 1 if whole else 2)


def tensors_of(engine: Any) -> list[Any]:
    """Copies of all that a step may change on this rank: weights, masters, and what the optimizer keeps."""
    import torch

    from parallel import deepspeed_compat

    found = [getattr(param, "ds_tensor", param) for param in engine.module.parameters()]
    found += [value for state in engine.optimizer.state.values() for value in state.values()]
    if hasattr(engine._updates, "_deepspeed"):
        found += [flat for flats in deepspeed_compat.partitions_of(engine._updates._deepspeed, engine.optimizer) for flat in flats]
    return [torch.as_tensor(value).detach().clone() for value in found if torch.is_tensor(value) or isinstance(value, (int, float))]
