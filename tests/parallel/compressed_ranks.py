"""The whole model of `layouts` with rounded and masked weights, in any layout.

Nothing heavy is imported at the top: the ranks import this file before their environment is complete.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import layouts
from layouts import Case

STEPS, SAVED_AT = 3, 1
LINEAR = ("attention", "dense", "shared_experts", "experts", "window", "global", "projector")


@dataclass(frozen=True)
class Variant:
    """Settings of quantize=, prune= and tune=; targets are all layers that multiply rows."""

    quantize: dict[str, Any] | None = None
    prune: dict[str, Any] | None = None
    rank: int = 0  # of LoRA


VARIANTS = {
    "groups": Variant({"bits": 4, "group": 4, "symmetric": False}),
    "rows and activations": Variant({"bits": 4, "group": 0, "activation_bits": 8}),
    "learned rows": Variant({"bits": 4, "group": 0, "scales": "learned"}),
    "learned groups": Variant({"bits": 3, "group": 4, "scales": "learned"}),
    "wanda": Variant({"bits": 8, "group": 4, "symmetric": False}, {"kind": "wanda", "batches": 4}),
    "two of four beside factors": Variant(
        {"bits": 8, "numbers": "fp8", "group": 0}, {"kind": "magnitude", "pattern": "2:4"}, 4
    ),
}
CASES = {
    "one process": Case(),
    "tensor 2": Case({"tensor": 2}),
    "tensor 2 x expert 2": Case({"tensor": 2, "expert": 2}),
    "pipeline 2": Case({"pipeline": 2}),
    "expert 2, ZeRO-2": Case({"expert": 2}, data=2, engine={"zero": 2}),
    "data 2, ZeRO-3": Case(data=2, engine={"zero": 3}),
}


def ready(variant: Variant, case: Case, initial: Path | None, pages: Path) -> Any:
    """This rank's part of the model; with first weights and, where they are asked for, masks made of pages."""
    from parallel.snapshot import load_module
    from train.config import Config, PruneConfig, QuantizeConfig, TuneConfig
    from train.transform.attach import attach
    from train.transform.prune import settle

    module = layouts.built(case)
    if initial is not None:
        load_module(initial / "moe", module)
    targets = list(LINEAR)
    config = Config(model=layouts.model_config("moe"))
    config.quantize = QuantizeConfig(targets=targets, **(variant.quantize or {}))
    config.prune = PruneConfig(targets=targets, **(variant.prune or {}))
    if variant.rank:
        config.tune = TuneConfig("lora", targets, variant.rank)
    attach(config, module)
    if config.prune.kind == "wanda" and initial is not None:
        settle(module, layouts.shares(pages, case)[0])
    return module


def trained(variant: Variant, case: Case, pages: Path, initial: Path, saved: Path) -> dict[str, Any]:
    """History of (loss, norm), and this rank's pieces of the final state."""
    module = ready(variant, case, initial, pages)
    engine = layouts.engine_of(case, module)
    history = []
    for step, batches in enumerate(layouts.shares(pages, case)[:STEPS]):
        output = engine.train_step(batches)
        history.append((output.loss, output.grad_norm))
        if step + 1 == SAVED_AT:
            engine.save(saved, SAVED_AT, {})
    engine.close()
    return {"history": history, "weights": layouts.pieces_of(module)}


def resumed(variant: Variant, case: Case, pages: Path, saved: Path) -> dict[str, Any]:
    """The steps after a checkpoint of another layout; masks and scales are those in it."""
    module = ready(variant, case, None, pages)
    engine = layouts.engine_of(case, module)
    assert engine.load(saved) is not None
    outputs = [engine.train_step(batches) for batches in layouts.shares(pages, case)[SAVED_AT:STEPS]]
    engine.close()
    return {
        "history": [(output.loss, output.grad_norm) for output in outputs],
        "weights": layouts.pieces_of(module),
    }


def row_layer(tensor: int) -> tuple[Any, Any]:
    """(rounded inputs, used weight) of one layer that is split by inputs, this rank's parts; 4 bits, a scale for each row."""
    import torch
    from megatron.core import parallel_state

    from parallel.layers import RowLinear
    from parallel.topology import Topology, start, stop
    from train.transform.quantize import FakeQuantize
    from train.transform.rounding import Rounding

    start(Topology.of_world(tensor, tensor), seed=0)
    shape = layouts.built(Case({"tensor": tensor})).config
    layer, generator = RowLinear(shape, 64, 24), torch.Generator().manual_seed(3)
    (site,) = layer.sites()
    weight, x = torch.randn(24, 64, generator=generator), torch.randn(5, 3, 64, generator=generator)
    with torch.no_grad():
        site.weight.copy_(site.part(weight, ("outputs", "inputs")))
    rounding = FakeQuantize(site, Rounding(4), activations=True)
    rank = parallel_state.get_tensor_model_parallel_rank()
    found = rounding.inputs(x.chunk(tensor, -1)[rank]), rounding(site.weight)
    stop()
    return tuple(value.detach().numpy() for value in found)  # type: ignore[return-value]


def play(
    jobs: list[tuple[str, str, str]], ports: list[int], pages: str, initial: str, saved: str
) -> dict[Any, dict[str, Any]]:
    """All jobs of one launch, (variant, case, the case whose checkpoint it goes on from, or ""), and `row_layer`."""
    from parallel.topology import start, stop

    os.environ["MASTER_PORT"] = str(ports[0])
    results: dict[Any, Any] = {"row layer": row_layer(int(os.environ["WORLD_SIZE"]))}
    for port, (name, layout, before) in zip(ports[1:], jobs, strict=True):
        variant, case = VARIANTS[name], CASES[layout]
        os.environ["MASTER_PORT"] = str(port)
        start(case.topology(), seed=0, timeout_seconds=60)
        try:
            if before:
                results[name, layout, before] = resumed(
                    variant, case, Path(pages), Path(saved) / name / before
                )
            else:
                folder = Path(saved) / name / layout
                results[name, layout, before] = trained(variant, case, Path(pages), Path(initial), folder)
        except BaseException as error:
            error.add_note(f"in {name}, {layout}, {before}")
            raise
        stop()
    return results
