"""The whole model on real pages in any layout, and the same by plain torch on one process, to compare with.

Nothing heavy is imported at the top: the ranks import this file before their environment is complete.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

STEPS, SAVED_AT = 5, 3
RATE, DECAY, CLIP = 2e-3, 0.1, 0.5
LONGEST = 160
MODES = ("64", "96", "64+32")  # each page is given one of them; in the last it is cut into 2 x 2 tiles


@dataclass(frozen=True)
class Case:
    """A layout: `sizes` of parallel=, `engine` settings, and which `variant` of the model it trains."""

    sizes: dict[str, Any] = field(default_factory=dict)
    data: int = 1
    engine: dict[str, Any] = field(default_factory=dict)
    variant: str = "moe"
    frozen: tuple[str, ...] = ()

    @property
    def world(self) -> int:
        """Processes."""
        return self.sizes.get("tensor", 1) * self.sizes.get("pipeline", 1) * self.data

    @property
    def numbers(self) -> tuple[str, tuple[str, ...]]:
        """What decides which numbers are right: everything but the layout."""
        return self.variant, self.frozen

    def topology(self) -> Any:
        """Its grid."""
        from parallel.topology import Topology
        from train.config import ParallelConfig
        from train.model.placement import embedding_stage

        sizes = ParallelConfig(**self.sizes)
        return Topology.of_world(
            self.world, sizes.tensor, sizes.pipeline, sizes.expert, sizes.virtual, embedding_stage(sizes)
        )


MOE = {
    "one process": Case(),
    "tensor 2": Case({"tensor": 2}),
    "pipeline 2": Case({"pipeline": 2}),
    "expert 2": Case({"expert": 2}, data=2),
    "tensor 2 x expert 2 on two": Case({"tensor": 2, "expert": 2}),
    "interleaved": Case({"pipeline": 2, "virtual": 2}),
    "pipeline 2, encoder alone": Case({"pipeline": 2, "encoder_stages": 1}),
    "data 2, ZeRO-1": Case(data=2),
    "data 2, ZeRO-2": Case(data=2, engine={"zero": 2}),
    "data 2, ZeRO-3": Case(data=2, engine={"zero": 3}),
    "data 2, ZeRO-1, offload": Case(data=2, engine={"offload": True}),
    "data 2, ZeRO-3, offload, full recompute": Case(data=2, engine={"zero": 3, "offload": True, "recompute": "full"}),
    "tensor 2, selective recompute": Case({"tensor": 2}, engine={"recompute": "selective"}),
    "pipeline 2, full recompute": Case({"pipeline": 2}, engine={"recompute": "full"}),
    "tensor 2, encoder replicated": Case({"tensor": 2, "encoder": "replicate"}),
    "pipeline 4, as the paper": Case({"pipeline": 4, "encoder_stages": 2}),
    "expert 4": Case({"expert": 4}, data=4),
    "tensor 2 x pipeline 2": Case({"tensor": 2, "pipeline": 2}),
    "pipeline 2 x expert 2": Case({"pipeline": 2, "expert": 2}, data=2),
    "tensor 2 x expert 2": Case({"tensor": 2, "expert": 2}, data=2),
    "tensor 2 x pipeline 2 x expert 2": Case({"tensor": 2, "pipeline": 2, "expert": 2}),
    "data 2 x tensor 2, ZeRO-2": Case({"tensor": 2}, data=2, engine={"zero": 2}),
    "data 2 x tensor 2, ZeRO-3": Case({"tensor": 2}, data=2, engine={"zero": 3}),
}
FROZEN = ("encoder.window", "encoder.compressor")
OTHERS = {
    "tied, pipeline 2": Case({"pipeline": 2}, variant="tied"),
    "tied, tensor 2": Case({"tensor": 2}, variant="tied"),
    "tied, as the paper": Case({"pipeline": 4, "encoder_stages": 2}, variant="tied"),
    "frozen, data 2, ZeRO-3": Case(data=2, engine={"zero": 3}, frozen=FROZEN),
    "frozen, as the paper": Case({"pipeline": 4, "encoder_stages": 2}, frozen=FROZEN),
    "frozen, pipeline 2 x expert 2": Case({"pipeline": 2, "expert": 2}, data=2, frozen=FROZEN),
    "dense, tensor 2": Case({"tensor": 2}, variant="dense"),
    "dense, tensor 2, whole sequences": Case({"tensor": 2, "sequence": False}, variant="dense"),
    "dead, expert 2": Case({"expert": 2}, data=2, variant="dead"),
    "dead, data 2, ZeRO-3": Case(data=2, engine={"zero": 3}, variant="dead"),
    "dead, expert 4": Case({"expert": 4}, data=4, variant="dead"),
    "odd, tensor 2": Case({"tensor": 2}, variant="odd"),
    "convolution, tensor 2": Case({"tensor": 2}, variant="convolution"),
    "convolution, pipeline 2": Case({"pipeline": 2}, variant="convolution"),
    "convolution, data 2, ZeRO-3": Case(data=2, engine={"zero": 3}, variant="convolution"),
}
BF16 = {
    "bf16, one process": Case(engine={"precision": "bf16"}),
    "bf16, data 2, ZeRO-2": Case(data=2, engine={"precision": "bf16", "zero": 2}),
    "bf16, data 2, ZeRO-3": Case(data=2, engine={"precision": "bf16", "zero": 3}),
    "bf16, tensor 2 x pipeline 2": Case({"tensor": 2, "pipeline": 2}, engine={"precision": "bf16"}),
    "bf16, pipeline 2 x expert 2": Case({"pipeline": 2, "expert": 2}, data=2, engine={"precision": "bf16"}),
}
DORA = {
    "dora, one process": Case(variant="dora"),
    "dora, tensor 2": Case({"tensor": 2}, variant="dora"),
    "dora, expert 2, ZeRO-2": Case({"expert": 2}, data=2, engine={"zero": 2}, variant="dora"),
    "dora, interleaved": Case({"pipeline": 2, "virtual": 2}, variant="dora"),
    "dora, data 2, ZeRO-3, full recompute": Case(data=2, engine={"zero": 3, "recompute": "full"}, variant="dora"),
    "dora, tensor 2 x pipeline 2": Case({"tensor": 2, "pipeline": 2}, variant="dora"),
    "dora, tensor 2 x expert 2": Case({"tensor": 2, "expert": 2}, data=2, variant="dora"),
}
CASES = MOE | OTHERS | BF16 | DORA


def model_config(variant: str) -> Any:
    """Every part of the real model at its smallest: 64-pixel pages, 4 decoder layers, 8 experts.

    Variants: moe; dora, that with factors on everything that can carry some; tied embeddings; convolution, over texts in place of pages; dense, without experts; dead, with experts that no token reaches; odd, whose encoder
    heads do not divide.
    """
    from train.config import DecoderConfig, EncoderConfig, ModelConfig

    heads = 3 if variant == "odd" else 4
    encoder = EncoderConfig(
        image_size=64, patch=8, window_width=24, window_depth=2, window_heads=heads, window_size=4, global_layers=[1],
        window_mlp=48, neck_width=16, compressor_widths=[24, 48], global_depth=1, global_heads=heads, global_mlp=64,
    )  # fmt: skip
    decoder = DecoderConfig(
        layers=4, width=32, heads=4, ffn=64, dense_layers=4 if variant == "dense" else 1, experts=8, experts_per_token=2,
        expert_ffn=32, shared_experts=1, vocab_size=272, max_length=LONGEST, aux_loss=0.02,
        tied_embeddings=variant == "tied",
    )  # fmt: skip
    if variant == "convolution":
        return ModelConfig("layouts", replace(encoder, kind=variant), decoder, glyph_heads=False)
    return ModelConfig("layouts", encoder, decoder, glyph_classes=96, glyph_heads=True)


def build_pages(folder: Path) -> None:
    """A few real pages of 64 pixels."""
    from data_pipeline.build import build
    from data_pipeline.config import BuildConfig, CorpusConfig, PageConfig

    corpus = CorpusConfig(
        held_out=["persuasion"], language="en", pages=48, held_out_pages=4, held_out_random_pages=4, shard_pages=48,
        ratios=[4], prompt="", page=PageConfig(size=64),
    )  # fmt: skip
    build(BuildConfig(corpus=corpus, out=str(folder), workers=1))


def global_batch(pages: Path, step: int, every_size: bool = False) -> list[Any]:
    """4 micro-batches of 2 rows: one and two pages a row, text without a page, pages of 64 and of 96 pixels and in tiles
    beside each other, and one micro-batch without any page. Which is which moves on with the step.
    """
    from data_pipeline.batch import BatchSpec, Collator
    from data_pipeline.reader import records
    from data_pipeline.tokenizer import byte_tokenizer

    found = list(records(pages / "train" / "ratio-4", 48))[8 * step : 8 * step + 8]
    first, second, third, fourth, fifth, sixth, seventh, eighth = found
    both = replace(third, pages=(*third.pages, *fourth.pages), target=third.target + fourth.target)
    batches = []
    spec = BatchSpec(MODES, 8, LONGEST, glyphs=True, texts=True, every_size=every_size)
    for rows in (
        [first, second],
        [both, _text(fifth)],
        [sixth, _text(third)],
        [_text(seventh), _text(eighth)],
    ):
        batches.append(Collator(byte_tokenizer(), spec)(rows, ["text"] * 2))
    return batches[step % 4 :] + batches[: step % 4]


def _text(record: Any) -> Any:
    return replace(record, pages=(), glyphs=None, glyph_cell=0)


def objective() -> Any:
    """Both glyph maps and noise in the input, so that every loss and every stage takes part."""
    from train.objective import NextToken

    return NextToken(patch_glyphs=0.5, token_glyphs=0.5, input_noise=0.1)


def built(case: Case, seed: int = 1) -> Any:
    """This rank's part of the model."""
    from data_pipeline.tokenizer import byte_tokenizer
    from train.config import ParallelConfig
    from train.model.optical import build

    engine = case.engine
    module = build(
        model_config(case.variant), byte_tokenizer().image, ParallelConfig(**case.sizes),
        precision=engine.get("precision", "fp32"), recompute=engine.get("recompute", "none"), seed=seed,
    )  # fmt: skip
    for name, parameter in module.named_parameters():
        plain = name.split(".", 2)[2] if name.startswith("pieces.") else name
        parameter.requires_grad_(not plain.startswith(case.frozen) if case.frozen else True)
    return module


def ready(case: Case, initial: Path | None = None, seed: int = 1) -> Any:
    """The same with the weights of a checkpoint, and what its variant adds."""
    from parallel.snapshot import load_module
    from train.config import Config, TuneConfig
    from train.targets import GROUPS
    from train.transform.attach import attach

    module = built(case, seed)
    if initial is not None:
        load_module(initial / case.variant, module)
    if case.variant == "dora":
        tune = TuneConfig("dora", list(GROUPS), rank=4, ranks={"experts": 2}, alpha=8.0)
        attach(Config(model=model_config(case.variant), tune=tune), module)
    return module


def engine_of(case: Case, module: Any) -> Any:
    """An engine as a stage makes it."""
    import torch

    from parallel.engine import Engine
    from parallel.options import EngineOptions
    from train.optimizer import parameter_groups

    options = {key: value for key, value in case.engine.items() if key != "recompute"}
    engine = Engine(
        module,
        parameter_groups(module, DECAY),
        lambda groups: torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-4, fused=True),
        objective(),
        case.topology(),
        EngineOptions(clip=CLIP, **options),
    )
    engine.set_learning_rate(RATE)
    return engine


def shares(pages: Path, case: Case) -> list[list[Any]]:
    """This data rank's micro-batches of every step."""
    from megatron.core import parallel_state

    rank, each = parallel_state.get_data_parallel_rank(), 4 // case.data
    every_size = case.engine.get("zero") == 3
    steps = [global_batch(pages, step, every_size) for step in range(STEPS)]
    return [batches[rank * each : (rank + 1) * each] for batches in steps]


def trained(case: Case, pages: Path, initial: Path, saved: Path) -> dict[str, Any]:
    """What this rank sees of `STEPS` steps: history of (loss, norm), and its pieces of the final weights."""
    module = ready(case, initial)
    engine = engine_of(case, module)
    history, sums = [], None
    for step, batches in enumerate(shares(pages, case)):
        output = engine.train_step(batches)
        history.append((output.loss, output.grad_norm))
        sums = sums or (output.sums, engine.eval_step(batches)[0])
        if step + 1 == SAVED_AT:
            engine.save(saved, SAVED_AT, {"seen": step + 1}, background=True)
    engine.close()
    return {"history": history, "sums": sums, "weights": pieces_of(module)}


def resumed(case: Case, pages: Path, saved: Path) -> dict[str, Any]:
    """(loss, norm) of the steps after a checkpoint that any layout wrote."""
    engine = engine_of(case, ready(case, seed=2))
    step, extra = engine.load(saved)
    assert (step, extra) == (SAVED_AT, {"seen": SAVED_AT})
    outputs = [engine.train_step(batches) for batches in shares(pages, case)[step:]]
    engine.close()
    return {"history": [(output.loss, output.grad_norm) for output in outputs]}


def poisoned(case: Case, pages: Path, initial: Path) -> dict[str, Any]:
    """What comes of steps that are not finite: a loss on the last stage, a loss on the first, a gradient on the first."""
    import torch
    from megatron.core import parallel_state

    from parallel.snapshot import load_module

    module = built(case)
    load_module(initial / case.variant, module)
    engine = engine_of(case, module)
    clean, poison = engine._objective, {"kind": ""}

    def spoiled(piece: Any, batch: Any, normalizers: Any) -> Any:
        output, first = clean(piece, batch, normalizers), parallel_state.is_pipeline_first_stage()
        if poison["kind"] == ("loss of the first" if first else "loss of the last"):
            output.loss = output.loss + torch.nan
        if first and poison["kind"] == "gradient":
            output.hidden.register_hook(lambda gradient: gradient * torch.inf)
        return output

    engine._objective = spoiled
    batches = shares(pages, case)
    history = [(output.loss, output.grad_norm) for output in (engine.train_step(batches[0]),)]
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    skipped = []
    for poison["kind"] in ("loss of the first", "loss of the last", "gradient"):
        skipped.append(engine.train_step(batches[1]).skipped)
    unchanged = all(torch.equal(before[name], value) for name, value in module.named_parameters())
    poison["kind"] = ""
    output = engine.train_step(batches[1])
    history.append((output.loss, output.grad_norm))
    engine.close()
    return {"skipped": skipped, "unchanged": unchanged, "history": history}


def pieces_of(module: Any) -> list[tuple[str, tuple[int, ...], tuple[int, ...], Any]]:
    """(key, shape of the whole, offset, values) of this rank's part of every weight."""
    from parallel.snapshot import cut, describe

    found = [piece for entry in describe(module) for piece in cut(entry, entry.data, "")]
    return [(piece.key, piece.shape, piece.offset, piece.view().float().numpy().copy()) for piece in found]


def assembled(ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole weights from the pieces of all ranks; asserts that those who hold the same part hold the same values."""
    import numpy as np

    whole: dict[str, Any] = {}
    for rank in ranks:
        for key, shape, offset, values in rank["weights"]:
            target = whole.setdefault(key, np.full(shape, np.nan, dtype=np.float32))
            place = tuple(slice(start, start + size) for start, size in zip(offset, values.shape))
            there = target[place]
            assert np.isnan(there).all() or np.allclose(there, values, rtol=0, atol=1e-6), f"{key} differs between ranks by {np.nanmax(np.abs(there - values))}"
            target[place] = values
    for key, values in whole.items():
        assert not np.isnan(values).any(), f"{key} is incomplete"
    return whole


def make_initial(folder: Path, variant: str) -> None:
    """A checkpoint of first weights, none of them zero: residual branches and biases take part from the first step."""
    import torch

    case = Case(variant=variant)
    module = built(case)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
            if variant == "dead" and "router" in name:  # experts in a row: the outermost always win
                direction = torch.randn(parameter.shape[1], generator=generator)
                parameter.copy_(torch.linspace(-2, 2, len(parameter))[:, None] * direction)
    engine = engine_of(case, module)
    engine.save(folder / variant, 0, {})
    engine.close()


def start_weights(initial: Path, variant: str) -> dict[str, Any]:
    """The weights before the first step, factors included."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    weights = assembled([{"weights": pieces_of(ready(Case(variant=variant), initial))}])
    stop()
    return weights


def reference(case: Case, pages: Path, initial: Path) -> dict[str, Any]:
    """The same steps by plain torch: whole model, all micro-batches, torch's AdamW and clip_grad_norm_; also the number of
    (step, layer) in which some expert got no token.
    """
    import torch
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

    from parallel.layers import Experts, transforms_in
    from train.optimizer import parameter_groups

    module = ready(Case(variant=case.variant, frozen=case.frozen), initial)
    idle: list[bool] = []
    for part in module.modules():
        if isinstance(part, Experts):
            part.register_forward_pre_hook(lambda _, inputs: idle.append(bool((inputs[1] == 0).any())))
    groups = [dict(group) for group in parameter_groups(module, DECAY)]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-4, fused=False)
    parameters = [p for p in module.parameters() if p.requires_grad]
    history = []
    for step in range(STEPS):
        batches = global_batch(pages, step)
        totals = {name: sum(batch.weights()[name] for batch in batches) for name in ("tokens", "cells")}
        MoEAuxLossAutoScaler.set_loss_scale(torch.tensor(1 / len(batches)))
        losses = []
        for batch in batches:
            loss = objective()(module, batch, totals).loss
            loss.backward()
            losses.append(loss.item())
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        for transform in transforms_in(module):
            transform.weights_changed()
        optimizer.zero_grad()
        history.append((sum(losses), norm.item()))
    return {"history": history, "weights": assembled([{"weights": pieces_of(module)}]), "idle": sum(idle)}


def play(
    jobs: list[tuple[str, str, str]], ports: list[int], pages: str, initial: str, saved: str
) -> dict[Any, dict[str, Any]]:
    """All jobs of one launch, ("train", "resume" or "poison", case, name of the checkpoint), each in process groups of its own."""
    from parallel.topology import start, stop

    results = {}
    for port, (kind, name, checkpoint) in zip(ports, jobs):
        case, folder = CASES[name], Path(saved) / checkpoint
        os.environ["MASTER_PORT"] = str(port)
        start(case.topology(), seed=0, timeout_seconds=60)
        try:
            if kind == "train":
                results[kind, name] = trained(case, Path(pages), Path(initial), folder)
            elif kind == "poison":
                results[kind, name] = poisoned(case, Path(pages), Path(initial))
            else:
                results[kind, name] = resumed(case, Path(pages), folder)
        except BaseException as error:
            error.add_note(f"in {kind} {name}")
            raise
        stop()
    return results
