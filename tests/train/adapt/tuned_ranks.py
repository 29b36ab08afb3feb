"""What ranks do for test_layouts.py: tuning on packed rows in any layout; and the truth, the same samples in rows of their own,
by plain torch on one process.

Nothing heavy is imported at the top: the ranks import this file before their environment is complete.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.parallel.layouts import (
    CLIP,
    DECAY,
    RATE,
    Case,
    assembled,
    built,
    engine_of,
    model_config,
    pieces_of,
)

STEPS, SAVED_AT, TOKENS, WIDTH = 3, 1, 5, 6

TUNES: dict[str, dict[str, Any]] = {
    "adapter": {"kind": "adapter"},
    "adapter behind experts": {"kind": "adapter", "targets": ["experts"], "train": ["*norm*.weight"]},
    "prefix": {"kind": "prefix"},
    "p_tuning_v2": {"kind": "p_tuning_v2"},
    "prompt": {"kind": "prompt"},
    "p_tuning": {"kind": "p_tuning"},
    "selective": {"kind": "selective", "train": ["decoder.*layernorm*", "encoder.*.bias"]},
}
TENSOR, PIPELINE = Case({"tensor": 2}), Case({"pipeline": 2})
ZERO3 = Case(data=2, engine={"zero": 3})
CASES: dict[str, tuple[str, Case]] = {
    **{f"{tune}, tensor 2": (tune, TENSOR) for tune in TUNES if tune != "adapter behind experts"},
    **{f"{tune}, pipeline 2": (tune, PIPELINE) for tune in ("adapter behind experts", "prefix", "prompt")},
    **{f"{tune}, expert 2": (tune, Case({"expert": 2}, data=2)) for tune in ("adapter", "prefix")},
    **{f"{tune}, ZeRO-3": (tune, ZERO3) for tune in ("adapter", "prefix", "prompt")},
    "adapter, data 2": ("adapter", Case(data=2)),
    "p_tuning_v2, ZeRO-2": ("p_tuning_v2", Case(data=2, engine={"zero": 2})),
    "adapter, full recompute": ("adapter", Case({"tensor": 2}, engine={"recompute": "full"})),
    "adapter, selective recompute": ("adapter", Case({"pipeline": 2}, engine={"recompute": "selective"})),
    "prefix, interleaved": ("prefix", Case({"pipeline": 2, "virtual": 2}, engine={"recompute": "full"})),
    "p_tuning, encoder alone": (
        "p_tuning",
        Case({"pipeline": 2, "encoder_stages": 1}, engine={"recompute": "full"}),
    ),
}
RARE = (  # what others show as well: with the slow tests
    "p_tuning, tensor 2",
    "selective, tensor 2",
    "prefix, expert 2",
    "adapter, ZeRO-3",
    "prompt, ZeRO-3",
    "adapter, data 2",
    "adapter, selective recompute",
    "prefix, interleaved",
    "p_tuning, encoder alone",
)
RESUMED = {  # each goes on from what the other saved
    "adapter, tensor 2": "adapter, expert 2",
    "prefix, tensor 2": "prefix, pipeline 2",
    "prefix, ZeRO-3": "prefix, tensor 2",
    "p_tuning_v2, tensor 2": "p_tuning_v2, ZeRO-2",
    "prompt, pipeline 2": "prompt, tensor 2",
}


def config_of(tune: str) -> Any:
    """As a user would write it."""
    from train.config import Config, TuneConfig

    settings = TuneConfig(tokens=TOKENS, width=WIDTH, **TUNES[tune])
    return Config(model=model_config("moe"), tune=settings, seed=3)


def tuned(tune: str, case: Case, initial: Path) -> Any:
    """This rank's part of the model: the base's weights, what the tuner adds, with values other than zero everywhere."""
    import torch

    from parallel.snapshot import load_module
    from tests.train.model.small_model import without_zeros
    from train.adapt.attach import add
    from train.parameters import freeze_idle_heads

    module = built(case)
    load_module(initial / case.variant, module)
    base = {id(parameter): parameter.detach().clone() for parameter in module.parameters()}
    add(config_of(tune), module)
    freeze_idle_heads(module, objective())
    without_zeros(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(base.get(id(parameter), parameter))
    return module


def objective() -> Any:
    """The next token alone."""
    from train.objective import NextToken

    return NextToken()


def trained(tune: str, case: Case, initial: Path, saved: Path) -> dict[str, Any]:
    """What this rank sees of `STEPS` steps: history of (loss, norm), its pieces of the final weights."""
    engine, history = _engine(tune, case, initial), []
    for number, batches in enumerate(shares(tune, case)):
        output = engine.train_step(batches)
        history.append((output.loss, output.grad_norm))
        if number + 1 == SAVED_AT:
            engine.save(saved, SAVED_AT, {})
    module = engine.module
    engine.close()
    return {"history": history, "weights": pieces_of(module)}


def resumed(tune: str, case: Case, initial: Path, saved: Path) -> dict[str, Any]:
    """(loss, norm) of the steps after a checkpoint that another layout wrote."""
    engine = _engine(tune, case, initial)
    assert engine.load(saved) == (SAVED_AT, {})
    outputs = [engine.train_step(batches) for batches in list(shares(tune, case))[SAVED_AT:]]
    engine.close()
    return {"history": [(output.loss, output.grad_norm) for output in outputs]}


def shares(tune: str, case: Case) -> Iterator[list[Any]]:
    """This data rank's micro-batches of every step, packed."""
    from megatron.core import parallel_state

    from tests.packed_samples import step

    rank, each = parallel_state.get_data_parallel_rank(), 4 // case.data
    for number in range(STEPS):
        batches = step(number, True, case.engine.get("zero") == 3, config_of(tune).tune.reserved)
        yield batches[rank * each : (rank + 1) * each]


def _engine(tune: str, case: Case, initial: Path) -> Any:
    engine = engine_of(case, tuned(tune, case, initial))
    engine._objective = objective()
    return engine


def reference(tune: str, initial: Path) -> dict[str, Any]:
    """The same steps by plain torch: all micro-batches, a row a sample, torch's AdamW and clip_grad_norm_."""
    import torch
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

    from tests.packed_samples import step
    from train.optimizer import parameter_groups

    module = tuned(tune, Case(), initial)
    groups = [dict(group) for group in parameter_groups(module, DECAY)]
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-4, fused=False)
    before, history = assembled([{"weights": pieces_of(module)}]), []
    for number in range(STEPS):
        batches = step(number, packed=False, reserved=config_of(tune).tune.reserved)
        totals = {"tokens": sum(batch.weights()["tokens"] for batch in batches)}
        MoEAuxLossAutoScaler.set_loss_scale(torch.tensor(1 / len(batches)))
        losses = []
        for batch in batches:
            loss = objective()(module, batch, totals).loss
            loss.backward()
            losses.append(loss.item())
        norm = torch.nn.utils.clip_grad_norm_(trainable, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        history.append((sum(losses), norm.item()))
    return {"history": history, "before": before, "weights": assembled([{"weights": pieces_of(module)}])}


def play(
    jobs: list[tuple[str, str, str]], ports: list[int], initial: str, saved: str
) -> dict[tuple[str, str], dict[str, Any]]:
    """All jobs of one launch, ("train" or "resume", case, name of the checkpoint), each in process groups of its own."""
    from parallel.topology import start, stop

    results = {}
    for port, (kind, name, checkpoint) in zip(ports, jobs, strict=True):
        tune, case = CASES[name]
        os.environ["MASTER_PORT"] = str(port)
        start(case.topology(), seed=0, timeout_seconds=60)
        try:
            work = trained if kind == "train" else resumed
            results[kind, name] = work(tune, case, Path(initial), Path(saved) / checkpoint)
        except BaseException as error:
            error.add_note(f"in {kind} {name}")
            raise
        stop()
    return results
