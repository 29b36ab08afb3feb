"""A small student and a wider, deeper teacher that sees the same pages in more vision tokens; what ranks train of it.

Nothing heavy is imported at the top: ranks import this before their environment is complete.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.parallel.layouts import CLIP, DECAY, LONGEST, RATE, Case

STEPS = 3
STUDENT_MODES, TEACHER_MODES = ("64", "64+32"), ("96",)  # 4 vision tokens, or 4 and tiles; 9 of the teacher
ASKED = {"weight": 1.0, "next_token": 0.5, "hidden": 0.3, "features": 0.2, "temperature": 1.5}
SETTINGS = {
    "all": ASKED,
    "top 8": {"weight": 1.0, "top_k": 8, "divergence": "jsd"},
    "cosine": {
        "weight": 0.5,
        "divergence": "reverse_kl",
        "hidden": 1.0,
        "features": 1.0,
        "distance": "cosine",
    },
}
CASES = {
    "one process": Case(),
    "one process, full recompute": Case(engine={"recompute": "full"}),
    "tensor 2": Case({"tensor": 2}),
    "tensor 2 x expert 2": Case({"tensor": 2, "expert": 2}),
    "tensor 2, whole sequences": Case({"tensor": 2, "sequence": False}, variant="dense"),
    "expert 2": Case({"expert": 2}, data=2),
    "data 2, ZeRO-1": Case(data=2),
    "data 2, ZeRO-2": Case(data=2, engine={"zero": 2}),
    "data 2, ZeRO-3": Case(data=2, engine={"zero": 3}),
}  # fmt: skip


def teacher_model(variant: str) -> Any:
    """Wider and deeper than the student of tests.parallel.layouts."""
    from tests.parallel.layouts import model_config

    student = model_config(variant)
    layers = 5
    decoder = replace(
        student.decoder,
        layers=layers,
        width=48,
        ffn=64,
        max_length=320,
        dense_layers=layers if variant == "dense" else 1,
    )
    return replace(student, decoder=decoder, glyph_heads=False)


def write_teacher(folder: Path, variant: str = "moe") -> Path:
    """A run folder of a teacher with random weights that differ from zero. Process groups of one process must exist."""
    import torch
    from omegaconf import OmegaConf

    from data_pipeline.tokenizer import byte_tokenizer
    from parallel import checkpoint
    from parallel.snapshot import cut, describe
    from train.config import Config
    from train.model.optical import build

    config = Config(model=teacher_model(variant))
    config.data.modes, config.data.max_length = list(TEACHER_MODES), 320
    model = build(config.model, byte_tokenizer().image, seed=11)
    generator = torch.Generator().manual_seed(12)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    pieces = [piece for entry in describe(model) for piece in cut(entry, entry.data, "model.")]
    checkpoint.save(folder / "checkpoints", 7, pieces, {"step": 7, "extra": {}}, keep=1)
    return folder


def settings(case: Case, teacher: Path | None, asked: str = "all") -> Any:
    """The configuration of a student in a layout."""
    from tests.parallel.layouts import model_config
    from train.config import Config, DistillConfig, ParallelConfig

    config = Config(model=model_config(case.variant), parallel=ParallelConfig(**case.sizes))
    config.distill = DistillConfig(
        teacher=None if teacher is None else str(teacher),
        teacher_modes=list(TEACHER_MODES),
        **SETTINGS[asked],
    )
    return config


def parts(config: Any, every_size: bool = False) -> tuple[Any, Any, Any]:
    """(teacher, objective, collator) as a stage puts them together."""
    from data_pipeline.batch import BatchSpec
    from data_pipeline.tokenizer import byte_tokenizer
    from train.distill.attach import collator_of, objective_of, teacher_of
    from train.objective import NextToken

    spec = BatchSpec(STUDENT_MODES, 8, LONGEST, every_size=every_size)
    teacher = teacher_of(config, spec)
    objective = objective_of(config, NextToken(input_noise=0.1), teacher)
    return teacher, objective, collator_of(config, byte_tokenizer(), spec, teacher)


def micro_batches(collator: Any, step: int) -> list[Any]:
    """4 of 2 rows: one and two pages, text alone, and one micro-batch without any page."""
    from tests.packed_samples import record

    rows = [(1, 30), (2, 25), (0, 70), (1, 5), (0, 12), (0, 40), (1, 44), (1, 21)]
    rows = rows[step:] + rows[:step] if step % 2 else rows
    found = [
        record(f"d{step}-{number}", pages, "abcdefghij klm" * 9) for number, (pages, _) in enumerate(rows)
    ]
    found = [
        replace(one, target=one.target[number : number + size])
        for number, (one, (_, size)) in enumerate(zip(found, rows))
    ]
    return [collator(found[at : at + 2], ["noise"] * 2) for at in range(0, 8, 2)]


def student(case: Case, config: Any, teacher: Any, initial: Path) -> Any:
    """A student with the first weights of its variant."""
    from parallel.snapshot import load_module
    from tests.parallel.layouts import built
    from train.distill.attach import attach_helpers

    module = built(case)
    load_module(initial / case.variant, module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not name.startswith("glyph_heads"))
    attach_helpers(config, module, teacher)
    return module


def trained(case: Case, initial: Path, asked: str = "all") -> dict[str, Any]:
    """What this rank sees of `STEPS` steps."""
    from megatron.core import parallel_state

    from tests.parallel.layouts import engine_of, pieces_of

    config = settings(case, initial / f"teacher-{case.variant}", asked)
    teacher, objective, collator = parts(config, every_size=case.engine.get("zero") == 3)
    module = student(case, config, teacher, initial)
    engine = engine_of(case, module)
    engine._objective = objective
    rank, each = parallel_state.get_data_parallel_rank(), 4 // case.data
    history, sums = [], []
    for step in range(STEPS):
        output = engine.train_step(micro_batches(collator, step)[rank * each : (rank + 1) * each])
        history.append((output.loss, output.grad_norm))
        sums.append(output.sums)
    engine.close()
    return {"history": history, "sums": sums, "weights": pieces_of(module)}


def reference(variant: str, initial: Path, asked: str = "all") -> dict[str, Any]:
    """The same by plain torch on one process: torch's AdamW and clip_grad_norm_."""
    import torch
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

    from tests.parallel.layouts import assembled, pieces_of
    from train.optimizer import parameter_groups

    case = Case(variant=variant)
    config = settings(case, initial / f"teacher-{variant}", asked)
    teacher, objective, collator = parts(config)
    module = student(case, config, teacher, initial)
    groups = [dict(group) for group in parameter_groups(module, DECAY)]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-4, fused=False)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    history = []
    for step in range(STEPS):
        batches = micro_batches(collator, step)
        totals = {
            name: sum(batch.weights()[name] for batch in batches) for name in ("tokens", "cells", "pages")
        }
        MoEAuxLossAutoScaler.set_loss_scale(torch.tensor(1 / len(batches)))
        losses = []
        for batch in batches:
            loss = objective(module, batch, totals).loss
            loss.backward()
            losses.append(loss.item())
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        history.append((sum(losses), norm.item()))
    return {"history": history, "weights": assembled([{"weights": pieces_of(module)}])}


def play(jobs: list[tuple[str, str]], ports: list[int], initial: str) -> dict[Any, dict[str, Any]]:
    """All (case, settings) of one launch, each in process groups of its own."""
    from parallel.topology import start, stop

    results = {}
    for port, (name, asked) in zip(ports, jobs):
        os.environ["MASTER_PORT"] = str(port)
        start(CASES[name].topology(), seed=0, timeout_seconds=60)
        try:
            results[name, asked] = trained(CASES[name], Path(initial), asked)
        except BaseException as error:
            error.add_note(f"in {name}, {asked}")
            raise
        stop()
    return results
