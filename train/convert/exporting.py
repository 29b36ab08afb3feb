"""A run of ours → a released folder: safetensors shards with their index, config.json, tokenizer.json.

A few of our tensors at a time are in memory: at most the experts' first matrices of one layer.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import load_tokenizer
from parallel import checkpoint
from parallel import pieces as store
from parallel.pieces import Piece
from train.config import Config
from train.convert.architecture import ENDS, IMAGE_TOKEN, model_of
from train.convert.config import ConvertConfig
from train.convert.describe import (
    PATCH,
    brought_up,
    config_json,
    generation_json,
    refuse_what_the_release_cannot_say,
)
from train.convert.importing import KEPT, TOKENIZER
from train.convert.names import PATCH_EMBEDDING, PATCH_EMBEDDING_KEY, Entry, Shape, box_of, entries, theirs
from train.convert.progress import bar
from train.convert.released import grouped, read_json
from train.convert.shards import ShardWriter
from train.convert.vocabulary import write_tokenizer
from train.find_run import locate, read_config

FORMATS = {"bf16": torch.bfloat16, "fp32": torch.float32}
WORDS = {torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float16: "float16"}
GLYPH_HEADS = "glyph_heads."
AT_ONCE = 1 << 23  # bytes of our tensors that are read together
SPACE = 1.01  # free bytes wanted a byte to write


@dataclass(frozen=True)
class _Source:
    """A checkpoint and what is known about it. stored: type and shape of each weight, by its key without "model."."""

    folder: Path
    run: Path
    config: Config
    stored: dict[str, tuple[torch.dtype, Shape]]
    patch: tuple[torch.dtype, Shape] | None  # of CLIP's patch embedding, where the checkpoint carries it
    lacked: frozenset[str]  # what was not there when it was imported


def write_released(config: ConvertConfig, working: Path) -> list[str]:
    """Fills `working` with the released form of the newest checkpoint of a run; notes, the last one the result.

    Process groups must exist. Raises UserError for a model that the release cannot express.
    """
    notes: list[str] = []
    source = _source(config.source, notes)
    if source.config.quantize.bits:
        notes.append(
            "the weights are those that training rounded at every step, not the rounded ones: for integers, `python -m "
            f"train.quantize checkpoint={config.source} form=released`"
        )
    wanted = FORMATS.get(config.dtype)
    planned = _planned(source, wanted, notes)
    _require_space(working, planned)
    with (
        ShardWriter(working, planned, int(config.shard_size * 1e9)) as writer,
        bar(writer.total, "writing") as shown,
    ):
        for name, tensor in _tensors(source, planned):
            writer.write(name, tensor)
            shown.update(tensor.nbytes)
    _describe(source, config, planned, working, notes)
    notes.append(
        f"{config.to}: {len(planned)} tensors, {writer.total / 1e9:.2f} GB, from {source.folder} "
        f"(model {source.config.model.name})"
    )
    return notes


def _source(path: Path, notes: list[str]) -> _Source:
    found = locate(path, "from")
    notes += [choice] if (choice := found.choice("from")) else []
    config = read_config(found.folder / "config.yaml")
    refuse_what_the_release_cannot_say(config.model)
    folder = checkpoint.require(found.checkpoints)
    contents = {
        key: (entry.properties.dtype, tuple(entry.size)) for key, entry in store.contents(folder).items()
    }
    stored = {
        key.removeprefix("model."): entry for key, entry in contents.items() if key.startswith("model.")
    }
    lacked = checkpoint.facts(folder).get("extra", {}).get("lacked", [])
    return _Source(folder, found.folder, config, stored, contents.get(PATCH_EMBEDDING_KEY), frozenset(lacked))


def _planned(
    source: _Source, wanted: torch.dtype | None, notes: list[str]
) -> dict[str, tuple[torch.dtype, Shape]]:
    """Every released tensor's type and shape, in the order in which they are written."""
    described = entries(source.config.model)
    _require(source, described)
    heads = [key for key in source.stored if key.startswith(GLYPH_HEADS)]
    if heads:
        notes.append(
            f"left out: {', '.join(sorted(heads))} (for training only; the release has no such heads)"
        )
    planned: dict[str, tuple[torch.dtype, Shape]] = {}
    for entry in described:
        dtype = wanted or source.stored[entry.key][0]
        if dtype not in WORDS:
            raise UserError(
                f"{source.folder}: {entry.key} is stored as {dtype}: choose dtype=bf16 or dtype=fp32"
            )
        planned |= {name: (dtype, part.shape) for part in entry.parts for name in part.names}
    if source.patch is not None:
        planned[PATCH_EMBEDDING] = (wanted or source.patch[0], source.patch[1])
    elif PATCH_EMBEDDING not in source.lacked:
        width = source.config.model.encoder.compressor_widths[-1]
        dtype = planned["model.vision_model.embeddings.class_embedding"][0]
        planned[PATCH_EMBEDDING] = (dtype, (width, 3, PATCH, PATCH))
        notes.append(f"{PATCH_EMBEDDING}: zeros; the release has this tensor and never uses it")
    return planned


def _require(source: _Source, described: list[Entry]) -> None:
    """Raises UserError where the checkpoint is not, tensor by tensor, the released architecture."""
    shapes = {entry.key: entry.shape for entry in described}
    missing = [key for key in shapes if key not in source.stored]
    surplus = [key for key in source.stored if key not in shapes and not key.startswith(GLYPH_HEADS)]
    bent = [
        f"{key} ({list(source.stored[key][1])} instead of {list(shape)})"
        for key, shape in shapes.items()
        if key in source.stored and source.stored[key][1] != shape
    ]
    problems = [
        f"\n  {len(keys)} {word}: {grouped(keys)}"
        for word, keys in (
            ("missing", missing),
            ("without a released name", surplus),
            ("of another shape", bent),
        )
        if keys
    ]
    if problems:
        raise UserError(
            f"{source.folder} cannot be written as DeepSeek-OCR: its tensors are not those of the released architecture "
            f"in the sizes of {source.run / 'config.yaml'}." + "".join(problems)
        )


def _require_space(working: Path, planned: dict[str, tuple[torch.dtype, Shape]]) -> None:
    needed = SPACE * sum(dtype.itemsize * math.prod(shape) for dtype, shape in planned.values())
    free = shutil.disk_usage(working).free
    if free < needed:
        raise UserError(f"{working.parent} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed")


def _tensors(
    source: _Source, planned: dict[str, tuple[torch.dtype, Shape]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every planned tensor, of its planned type."""
    for group in _groups(source):
        values = {entry.key: torch.empty(entry.shape, dtype=source.stored[entry.key][0]) for entry in group}
        pieces = [Piece.whole(f"model.{key}", value) for key, value in values.items()]
        store.read(source.folder, pieces, alone=True)
        for entry in group:
            whole = values.pop(entry.key)
            for part in entry.parts:
                for name, tensor in zip(part.names, theirs(part, box_of(part, whole))):
                    yield name, tensor.to(planned[name][0])
    if source.patch is not None:
        value = torch.empty(source.patch[1], dtype=source.patch[0])
        store.read(source.folder, [Piece.whole(PATCH_EMBEDDING_KEY, value)], alone=True)
        yield PATCH_EMBEDDING, value.to(planned[PATCH_EMBEDDING][0])
    elif PATCH_EMBEDDING in planned:
        dtype, shape = planned[PATCH_EMBEDDING]
        yield PATCH_EMBEDDING, torch.zeros(shape, dtype=dtype)


def _groups(source: _Source) -> Iterator[list[Entry]]:
    """Our tensors in the order of the model, a few at a time: each reading costs a look at the whole index."""
    group: list[Entry] = []
    size = 0
    for entry in entries(source.config.model):
        needed = source.stored[entry.key][0].itemsize * math.prod(entry.shape)
        if group and size + needed > AT_ONCE:
            yield group
            group, size = [], 0
        group.append(entry)
        size += needed
    yield group


def _describe(
    source: _Source,
    config: ConvertConfig,
    planned: dict[str, tuple[torch.dtype, Shape]],
    working: Path,
    notes: list[str],
) -> None:
    """config.json, generation_config.json and the tokenizer; as they came where the model is still the imported one."""
    kept = source.run / KEPT
    if kept.is_dir():
        for path in kept.glob("*.json"):
            shutil.copyfile(path, working / path.name)
    image, begin, end = _ids(source, working, notes)
    word = _word([dtype for dtype, _ in planned.values()])
    reader = config.model_type or "unlimited_ocr"
    made = config_json(source.config.model, image, (begin, end), word, reader)
    as_it_came = kept / "config.json"
    if not as_it_came.is_file() or model_of(as_it_came) != source.config.model:
        _write_json(working / "config.json", made)
    elif config.dtype != "as_stored" or config.model_type is not None:
        _write_json(working / "config.json", brought_up(read_json(as_it_came), made, word, config.model_type))
    elif read_json(as_it_came).get("model_type") != "unlimited_ocr":
        notes.append(
            "config.json is the one that came with the weights; for transformers' unlimited_ocr give "
            "model_type=unlimited_ocr"
        )
    if not (working / "generation_config.json").is_file():
        _write_json(working / "generation_config.json", generation_json((begin, end)))


def _ids(source: _Source, working: Path, notes: list[str]) -> tuple[int, int, int]:
    """Ids of `<image>`, begin and end; the tokenizer that has them is written, unless none came with the weights."""
    if TOKENIZER in source.lacked:
        return IMAGE_TOKEN, *ENDS
    spec = source.config.data.tokenizer
    tokenizer = load_tokenizer(spec)
    write_tokenizer(spec, working / TOKENIZER, notes)
    return tokenizer.image, tokenizer.bos, tokenizer.eos


def _word(dtypes: list[torch.dtype]) -> str:
    """The format that most tensors have, in the words of config.json."""
    return WORDS[max(set(dtypes), key=dtypes.count)]


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
