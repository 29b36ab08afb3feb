"""Factors in peft's files: adapter_model.safetensors and adapter_config.json.

Our layers join what the release keeps apart: queries, keys and values; gate and up; the experts of a layer. Rows are independent
in LoRA and in DoRA, so that B and m are cut by rows, and A, which they share, stands beside each of them: the same function.

Shapes: R rank.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

from parallel.snapshot import cut, describe
from train.adapt.export.config import ExportConfig
from train.adapt.export.layer_names import in_file, in_transformers
from train.config import Config
from train.convert.names import Entry, Part, entries, theirs
from train.transform.low_rank import LowRank
from train.transform.sites import sites

if TYPE_CHECKING:
    from train.model.optical import OpticalModel

PREFIX = "base_model.model."
WEIGHT = ".weight"
Layer = tuple[str, dict[str, Tensor]]  # name, and "a", "b", "m" of it


def write_adapter(folder: Path, model: "OpticalModel", run: Config, config: ExportConfig) -> tuple[int, int]:
    """(layers, bytes) of what is written into `folder`."""
    layers = [layer for released in _released(model, run) for layer in _named(released, config.library)]
    tensors = {key: value for name, factors in layers for key, value in _keys(name, factors, run)}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    ranks = {name: factors["a"].shape[0] for name, factors in layers}
    (folder / "adapter_config.json").write_text(
        json.dumps(_settings(run, ranks, config.base_name), indent=2) + "\n"
    )
    return len(layers), sum(value.nbytes for value in tensors.values())


def _released(model: "OpticalModel", run: Config) -> Iterator[Layer]:
    """The factors of every layer by the name that it has in the release."""
    known = {entry.key: entry for entry in entries(run.model)}
    here = {id(site.weight): site for site in sites(model).values()}
    for described in describe(model):
        site = here.get(id(described.data))
        chain = site.owner.chain(site.parameter) if site is not None else None
        if chain is None or "low_rank" not in chain:
            continue
        factors = chain["low_rank"]
        assert isinstance(factors, LowRank) and site is not None
        entry = known[next(cut(described, described.data, "")).key]
        yield from _parts(
            entry, {name: value.detach() for name, value in factors.named_parameters()}, site.kind
        )


def _parts(entry: Entry, factors: dict[str, Tensor], kind: str) -> Iterator[Layer]:
    """The released layers that one of ours holds."""
    if kind in ("convolution", "embedding"):  # whole, and no rows to cut
        yield entry.parts[0].names[0], _folded_out(factors, entry, kind)
        return
    for part in entry.parts:
        if len(entry.shape) == 3:  # of one expert
            own = {name: value[part.offset[0]] for name, value in factors.items()}
        else:
            own = factors
        first, rows = part.offset[-2], part.size[-2]
        cuts = {name: _rows(part, own[name][first : first + rows]) for name in own if name != "a"}
        for number, name in enumerate(part.names):
            yield name, {"a": own["a"]} | {kind: values[number] for kind, values in cuts.items()}


def _rows(part: Part, values: Tensor) -> tuple[Tensor, ...]:
    """B [rows, R] or m [rows] of our rows, for each released tensor of `part`."""
    rest = tuple(values.shape[1:])
    return theirs(replace(part, shape=(part.shape[0], *rest), size=tuple(values.shape)), values)


def _folded_out(factors: dict[str, Tensor], entry: Entry, kind: str) -> dict[str, Tensor]:
    """With the axes of a convolution's kernel, as peft has it."""
    if kind == "embedding":
        return factors
    a, b = factors["a"], factors["b"]
    shaped = {"a": a.view(a.shape[0], *entry.shape[1:]), "b": b[:, :, None, None]}
    return shaped | ({"m": factors["m"].view(1, -1, 1, 1)} if "m" in factors else {})


def _named(layer: Layer, library: str) -> Iterator[Layer]:
    """The layer under the name of `library`; transformers keeps the global branch's queries, keys and values apart."""
    released, factors = layer
    name = released.removesuffix(WEIGHT)
    if library == "released":
        yield name, factors
        return
    names = in_transformers(name)
    cuts = {kind: value.chunk(len(names)) for kind, value in factors.items() if kind != "a"}
    for number, name in enumerate(names):
        yield name, {"a": factors["a"]} | {kind: values[number] for kind, values in cuts.items()}


def _keys(name: str, factors: dict[str, Tensor], run: Config) -> Iterator[tuple[str, Tensor]]:
    """peft's names of the tensors of one layer."""
    embedded, name = name.endswith("embed_tokens"), in_file(name)
    kinds = ("lora_embedding_A", "lora_embedding_B") if embedded else ("lora_A.weight", "lora_B.weight")
    yield f"{PREFIX}{name}.{kinds[0]}", factors["a"].clone()
    yield f"{PREFIX}{name}.{kinds[1]}", factors["b"].contiguous().clone()
    if "m" in factors:
        yield f"{PREFIX}{name}.lora_magnitude_vector", factors["m"].contiguous().clone()


def _settings(run: Config, ranks: dict[str, int], base: str | None) -> dict[str, Any]:
    """adapter_config.json. alpha / rank is the scale of each layer there, as it is here."""
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": run.tune.rank,
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != run.tune.rank},
        "lora_alpha": run.tune.alpha,
        "use_rslora": run.tune.rank_stabilised,
        "use_dora": run.tune.kind == "dora",
        "lora_dropout": run.tune.dropout,
        "target_modules": sorted(ranks),
        "bias": "none",
        "fan_in_fan_out": False,
    }
