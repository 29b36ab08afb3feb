"""What the ranks of `test_weight_decomposition` do. Torch is imported inside: the ranks import this file before their
environment is complete.
"""

import os
import shutil
import zlib
from pathlib import Path
from typing import Any

ALL = ["attention", "dense", "shared_experts", "experts", "embedding", "head", "convolutions", "global"]
LAYOUTS = {  # sizes of parallel=, data ranks, ZeRO stage
    "one": ({}, 1, 1),
    "tensor 2": ({"tensor": 2}, 1, 1),
    "tensor 2 x expert 2": ({"tensor": 2, "expert": 2}, 1, 1),
    "pipeline 2": ({"pipeline": 2}, 1, 1),
    "ZeRO-3": ({}, 2, 3),
}


def play(layouts: list[str], ports: list[int], kinds: tuple[str, ...]) -> dict[tuple[str, str], Any]:
    """Of each layout and kind of tuning: the rows of a model that was moved as every other one."""
    from parallel.topology import Topology, start, stop

    found = {}
    for layout, port in zip(layouts, ports, strict=True):
        sizes, data, zero = LAYOUTS[layout]
        os.environ["MASTER_PORT"] = str(port)
        world = sizes.get("tensor", 1) * sizes.get("pipeline", 1) * data
        start(Topology.of_world(world, sizes.get("tensor", 1), sizes.get("pipeline", 1), sizes.get("expert", 1)), 0)
        for kind in kinds:
            found[layout, kind] = moved(sizes, data, zero, kind)
        stop()
    return found


def moved(sizes: dict[str, int], data: int, zero: int, kind: str) -> list[dict[str, Any]]:
    """The rows of the small model, its own weights moved (kind "none") or what `kind` adds to them."""
    from layouts import objective

    from parallel.engine import Engine, EngineOptions
    from parallel.topology import Topology
    from tests.train.model.small_model import IMAGE_TOKEN, small_model, without_zeros
    from train.config import Config, ParallelConfig, TuneConfig
    from train.model.optical import build
    from train.optimizer import adamw, parameter_groups
    from train.transform.attach import attach
    from train.weight_decomposition.watch import watch_of

    config = Config(model=small_model(), parallel=ParallelConfig(**sizes), tune=TuneConfig(kind, ALL, rank=2))
    config.stage.weight_decomposition.every = 1
    config.stage.weight_decomposition.targets = ALL
    model = build(config.model, IMAGE_TOKEN, config.parallel, device="cpu", seed=0)
    without_zeros(model)
    attach(config, model)
    watch = watch_of(config, model)
    assert watch is not None
    move(model, ".transforms." if kind != "none" else "")
    if zero < 3:
        return watch.rows()
    options, topology = EngineOptions(zero, "fp32", 1.0, False), Topology(1, 1, 1, data)
    engine = Engine(model, parameter_groups(model, 0.0), adamw(config.optim), objective(), topology, options)
    rows = watch.rows()
    engine.close()
    return rows


def move(model: Any, part: str) -> None:
    """Adds to every tensor whose key has `part` in it some noise, the same in every layout."""
    import torch

    from parallel.snapshot import cut, describe
    from tests.train.model.small_model import place

    with torch.no_grad():
        for entry in describe(model):
            for piece in cut(entry, entry.data, ""):
                if part in piece.key:
                    generator = torch.Generator().manual_seed(zlib.crc32(f"moved {piece.key}".encode()))
                    noise = torch.randn(piece.shape, generator=generator) * 0.02
                    piece.view().add_(noise[place(piece)])


def stages(pages: str, directory: str) -> list[Any]:
    """A base that is watched and one that is not, a full fine-tuning and a DoRA, these once more from their middle on. Returns
    a weight of the base, and the same after the full fine-tuning.
    """
    from conf.compose import Composer
    from parallel.topology import Topology, start, stop
    from train.config import Config
    from train.launch.signals import StopFlag
    from train.stage import run

    composer = Composer("config", Config)
    common = [
        f"data.root={pages}", "model.encoder.image_size=64", "stage.steps=4", "stage.checkpoint_every=2",
        "stage.evaluate_every=100", "stage.evaluation_pages=2", "optim.warmup_steps=0", "data.global_batch=2",
        "data.micro_batch=2", f"run.directory={directory}", "stage.keep_checkpoints=5",
    ]  # fmt: skip
    watched, base = "stage.weight_decomposition.every=2", f"stage.start_from={directory}/base"
    start(Topology(), seed=0)
    for own in (
        ["stage=encoder", "run.name=base"],
        ["stage=encoder", "run.name=fresh", watched],
        ["stage=tune", "tune=full", "run.name=full", base, watched],
        ["stage=dora", "tune.rank=2", "run.name=dora", base, watched],
    ):
        run(composer.build([*common, *own]), StopFlag())
    for name in ("full", "dora"):
        folder = Path(directory) / name
        shutil.copy(folder / "weight_decomposition.jsonl", folder / "before.jsonl")
        shutil.rmtree(folder / "checkpoints" / "step-00000004")
    run(composer.build([*common, "stage=tune", "tune=full", "run.name=full", base, watched]), StopFlag())
    run(composer.build([*common, "stage=dora", "tune.rank=2", "run.name=dora", base, watched]), StopFlag())
    weights = [weight_of(composer.build(common), Path(directory) / name) for name in ("base", "full")]
    stop()
    return weights


def weight_of(config: Any, folder: Path) -> Any:
    """Keys, queries and values of a run's first decoder layer."""
    from data_pipeline.tokenizer import load_tokenizer
    from parallel.snapshot import load_module
    from train.parts import build_model

    model = build_model(config, load_tokenizer(config.data.tokenizer))
    load_module(folder, model)
    return model.decoder.decoder.layers[0].self_attention.linear_qkv.weight.detach().numpy()
