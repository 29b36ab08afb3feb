"""transformers' `unlimited_ocr`, an independent implementation of DeepSeek-OCR's architecture: tiny models of it, with
random weights, and ours with the same weights, brought over as the released weights are: saved by theirs, read by
`train.convert`.
"""

import copy
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

from benchmarks.peer import configuration
from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.record import Record
from data_pipeline.tokenizer import byte_tokenizer
from tests.train.model.small_model import small_model
from train.config import ModelConfig, ParallelConfig
from train.convert.names import to_ours

IMAGE = byte_tokenizer().image


def peer_size() -> ModelConfig:
    """`small_model` with the vocabulary of bytes, and without glyph heads, which theirs has not."""
    model = small_model()
    model.decoder.vocab_size, model.glyph_heads = 272, False
    return model


def their_model(model: ModelConfig, seed: int) -> Any:
    """Their model, every parameter random, also those they start at zero; drawn large enough to have a say."""
    from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrForConditionalGeneration

    theirs = UnlimitedOcrForConditionalGeneration(configuration(model, IMAGE))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            # Experts are stacked [E, outputs, inputs]: drawn any smaller, they would hide in the rounding.
            inputs = parameter.shape[-1] if parameter.dim() == 3 else parameter[0].numel()
            spread = 0.3 if parameter.dim() == 1 else inputs**-0.5
            parameter.normal_(0.0, 0.5 if "rel_pos" in name else spread, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
    return theirs.eval()


def our_model(theirs: Any) -> Any:
    """Our model with their weights, through files: every tensor of either has its counterpart, or this raises."""
    with TemporaryDirectory() as folder:
        return from_run(import_run(theirs, Path(folder)), ParallelConfig())


def import_run(theirs: Any, folder: Path) -> Path:
    """A run of ours with their weights, below `folder`."""
    from train.convert.importing import read_released

    released, run = folder / "released", folder / "run"
    theirs.save_pretrained(released)
    run.mkdir()
    read_released(released, run, run)
    return run


def from_run(run: Path, sizes: ParallelConfig) -> Any:
    """This rank's part of the model in a run."""
    from parallel.snapshot import load_module
    from train.find_run import read_config
    from train.model.optical import build

    model = read_config(run / "config.yaml").model
    model.decoder.aux_loss = 0.0  # theirs has none
    ours = build(model, IMAGE, sizes)
    load_module(run, ours)
    return ours


def released(theirs: Any, values: Callable[[torch.nn.Parameter], torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `values` gives of each parameter of theirs, under the released names: their own saving renames it."""
    state = {name: values(parameter).detach().clone() for name, parameter in theirs.named_parameters()}
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder, state_dict=state)
        return {
            name: value
            for file in Path(folder).glob("*.safetensors")
            for name, value in load_file(file).items()
        }


def pixels(views: torch.Tensor) -> torch.Tensor:
    """uint8 → what both encoders take."""
    return (views.float() / 255 - 0.5) / 0.5


def tolerance(expected: torch.Tensor) -> float:
    """1e-5 of values whose size is about 1, in proportion where they are larger."""
    return 1e-5 * float(expected.detach().abs().max().clamp(min=1.0))


def random_configuration(seed: int) -> ModelConfig:
    """A tiny model whose every choice is drawn: heads, depths, experts, top-k, dense layers, windows, widths."""
    draw = random.Random(seed)
    model = small_model()
    e, d = model.encoder, model.decoder
    model.name, model.glyph_heads = f"random {seed}", False
    e.patch = draw.choice([4, 8])
    e.image_size = e.patch * 4 * draw.randint(2, 5)
    e.window_heads, e.window_size = draw.randint(1, 3), draw.randint(3, 9)
    e.window_width, e.window_depth = e.window_heads * draw.choice([8, 16]), draw.randint(2, 4)
    e.global_layers = sorted(draw.sample(range(e.window_depth), draw.randint(1, e.window_depth - 1)))
    e.window_mlp, e.neck_width = draw.choice([24, 48, 80]), draw.choice([8, 24])
    e.global_heads, e.global_depth = draw.randint(1, 4), draw.randint(1, 3)
    e.compressor_widths = [draw.choice([16, 40]), e.global_heads * draw.choice([8, 16])]
    e.global_mlp = draw.choice([40, 96])
    d.heads, d.layers = draw.choice([1, 2, 3, 4, 5]), draw.randint(2, 4)
    d.width, d.ffn = d.heads * draw.choice([8, 16]), draw.choice([48, 104])
    d.dense_layers = draw.randint(0, d.layers - 1)
    d.experts = draw.randint(3, 12)
    d.experts_per_token, d.expert_ffn = draw.randint(1, min(d.experts, 6)), 8 * draw.randint(1, 5)
    d.shared_experts, d.vocab_size = draw.randint(1, 3), draw.choice([272, 304])
    d.rope_theta, d.norm_eps = draw.choice([500.0, 10000.0]), draw.choice([1e-6, 1e-4])
    return model


def page_batch(
    model: ModelConfig, modes: Sequence[str], shapes: Sequence[tuple[int, int]], seed: int
) -> MicroBatch:
    """A row for each page of noise of `shapes` (width, height), with a target of some random letters; the modes take turns."""
    spec = BatchSpec(tuple(modes), model.encoder.patch, model.decoder.max_length)
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    records = [
        Record(
            key=_key(number, spec),
            kind="text",
            prompt="\nRead.",
            target="".join(draw.choices("abc xyz", k=draw.randint(3, 12))),
            language="",
            script="",
            source="",
            license="",
            seed=0,
            pages=[noise.integers(0, 256, (height, width, 3), dtype=np.uint8)],
        )
        for number, (width, height) in enumerate(shapes)
    ]
    return Collator(byte_tokenizer(), spec)(records, [""] * len(records))


def _key(number: int, spec: BatchSpec) -> str:
    """A key by which the mode that is due is drawn."""
    due = spec.parsed[number % len(spec.parsed)]
    return next(key for key in (f"page {number} {salt}" for salt in count()) if spec.mode_of(key) == due)


def their_logits(theirs: Any, batch: MicroBatch) -> torch.Tensor:
    """Their logits of one of our batches, [all positions of all rows that are not padding, vocabulary]. Each row alone, so
    that rows may differ in mode.
    """
    stacks = {stack.shape[-1]: pixels(stack) for stack in batch.views}
    found = []
    for page in batch.shown:
        tiles: dict[str, Any] = {}
        if page.tiles:
            tiles["pixel_values_local"] = torch.stack([stacks[size][number] for size, number in page.tiles])
            tiles["num_local_patches"], tiles["patches_grid"] = [len(page.tiles)], [list(page.grid)]
        size, number = page.overview
        row = batch.tokens[page.row][~batch.padding[page.row]]
        found.append(theirs(input_ids=row[None], pixel_values=stacks[size][number][None], **tiles).logits[0])
    return torch.cat(found)


def our_logits(ours: Any, batch: MicroBatch) -> torch.Tensor:
    """Ours in the same order."""
    return ours(batch).logits[~batch.padding]


def loss_of(logits: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Mean cross-entropy of the targets, in the reading of both: a position's label is the next token."""
    return torch.nn.functional.cross_entropy(logits, batch.labels[~batch.padding], ignore_index=-100)


class _Doubles(TorchFunctionMode):
    """What their code does in fp32 whatever its weights are (norms, router, positions), it does in fp64."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.float:
            return args[0].double()
        wide = [torch.float64 if value is torch.float32 else value for value in args]
        named = {
            name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()
        }
        return function(*wide, **named)


def exact_gradients(theirs: Any, batch: MicroBatch, model: ModelConfig) -> dict[str, torch.Tensor]:
    """Gradients of the loss of a batch, computed by theirs in fp64, under our keys. Between two fp32 computations stand
    the roundings of both; ours is compared with what it should be.
    """
    wide = copy.deepcopy(theirs).double()
    wide.set_experts_implementation("eager")  # grouped products know no fp64
    for module in wide.modules():
        if hasattr(module, "inv_freq"):
            module.inv_freq = module.inv_freq.double()
    torch.set_default_dtype(torch.float64)
    try:
        with _Doubles():
            logits = their_logits(wide, batch)
            assert logits.dtype is torch.float64
            loss_of(logits, batch).backward()
    finally:
        torch.set_default_dtype(torch.float32)
    return to_ours(model, released(wide, lambda parameter: parameter.grad))


def differences(
    pieces: Iterable[tuple[str, Any, Any, np.ndarray]], wanted: dict[str, torch.Tensor]
) -> dict[str, float]:
    """By key of ours: the largest difference of what `gradient_pieces` yields from `wanted`, in proportion to the largest
    entry there. Every key of `wanted` must be among it.
    """
    found = dict.fromkeys(wanted, -1.0)
    for key, _, place, gradient in pieces:
        scale = wanted[key].abs().max()
        difference = (torch.from_numpy(gradient).double() - wanted[key][place]).abs().max()
        found[key] = max(found[key], float(difference / scale) if scale else float(difference))
    assert min(found.values()) >= 0, "ours lacks the gradient of a tensor of theirs"
    return found
