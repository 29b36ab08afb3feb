"""Rounded weights as packed integers under the released names, in the format of compressed-tensors (W4A16 and its like).

Of each matrix NAME.weight there are NAME.weight_packed (integers of `bits` bits, without gaps, in int32), NAME.weight_scale
[outputs, groups], NAME.weight_shape, and where zeros are not zero NAME.weight_zero_point; of fp8, NAME.weight as e4m3 and its
scale. config.json says so in `quantization_config`. Everything else is as `train.convert` writes it.

transformers 5.23 reads the format, but not into this architecture: the loader that takes CLIP's fused query, key and value
apart refuses packed tensors. compressed-tensors' own `decompress` gives the plain folder that it takes.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import load_file, save_file

from parallel.snapshot import Sharded, cut, describe
from train.config import ModelConfig, QuantizeConfig
from train.convert.config import ConvertConfig
from train.convert.exporting import write_released
from train.convert.names import Entry, box_of, entries, theirs
from train.convert.released import INDEX
from train.quantize.config import RoundConfig, settings_of
from train.quantize.grid import Rounded
from train.quantize.write import write_run
from train.transform.rounding import Scales
from train.transform.sites import sites

if TYPE_CHECKING:
    from train.quantize.command import Loaded

Tensors = dict[str, torch.Tensor]
WEIGHT = ".weight"


def write_packed(
    working: Path, config: RoundConfig, loaded: "Loaded", found: Mapping[str, Rounded]
) -> list[str]:
    """Fills `working`, which becomes `config.to`; notes, the last one the result."""
    settings, run = settings_of(config, loaded.run), working / "run"
    write_run(run, config, loaded, found)
    given = {"from": str(run), "to": config.to, "dtype": config.dtype, "shard_size": 5.0, "model_type": None}
    notes = write_released(ConvertConfig(**given), working)[:-1]
    shutil.rmtree(run)
    packed = dict(_packed(loaded, settings, found))
    before = _bytes(working)
    places: dict[str, str] = {}
    for file in sorted(working.glob("*.safetensors")):
        tensors = {new: value for name, tensor in load_file(file).items()
                   for new, value in packed.get(name, {name: tensor}).items()}  # fmt: skip
        save_file(tensors, file, {"format": "pt"})
        places |= dict.fromkeys(tensors, file.name)
    after = _bytes(working)
    index = {"metadata": {"total_size": after}, "weight_map": dict(sorted(places.items()))}
    (working / INDEX).write_text(json.dumps(index, indent=2))
    _describe(working / "config.json", loaded.run.model, settings, packed)
    share = 100 * after / before
    return [
        *notes,
        f"{config.to}: {len(packed)} of {len(packed) + len(places) - _count(packed)} tensors packed, {after / 1e6:.2f} MB, "
        f"{share:.0f} % of the {before / 1e6:.2f} MB in {config.dtype}",
    ]


def _packed(
    loaded: "Loaded", settings: QuantizeConfig, found: Mapping[str, Rounded]
) -> Iterator[tuple[str, Tensors]]:
    """Released name of each rounded matrix → the tensors in its place."""
    here = sites(loaded.model)
    by_weight = {id(here[name].weight): value for name, value in found.items()}
    known = {entry.key: entry for entry in entries(loaded.run.model)}
    for described in describe(loaded.model):
        value = by_weight.get(id(described.data))
        if value is None:
            continue
        assert value.integers is not None and value.scales is not None
        kinds = [value.integers, *(_spread(scale, value.integers) for scale in value.scales)]
        (key, integers), (_, scale), (_, zero) = (_whole(described, kind) for kind in kinds)
        parts = [dict(_named(known[key], whole)) for whole in (integers, scale, zero)]
        for name, matrix in parts[0].items():
            scales = Scales(*(_narrow(part[name], settings.group) for part in parts[1:]))
            yield name, _tensors(name.removesuffix(WEIGHT), matrix, scales, settings)


def _whole(described: Sharded, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Key in a checkpoint, and the tensor as it lies there: gate and up of a feed-forward together."""
    pieces = list(cut(described, tensor, ""))
    whole = tensor.new_empty(pieces[0].shape)
    for piece in pieces:
        own = piece.view()
        whole[
            tuple(slice(start, start + size) for start, size in zip(piece.offset, own.shape, strict=True))
        ] = own
    return pieces[0].key, whole


def _named(entry: Entry, whole: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    for part in entry.parts:
        yield from zip(part.names, theirs(part, box_of(part, whole)), strict=True)


def _spread(scale_RG: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A value for every weight of a row, so that scales are cut and renamed as the weights are."""
    each = like.shape[-1] // scale_RG.shape[1]
    return scale_RG.detach().repeat_interleave(each, 1).view(like.shape)


def _narrow(spread: torch.Tensor, group: int) -> torch.Tensor:
    """[outputs, groups] again."""
    return spread[:, :: group or spread.shape[1]].contiguous()


def _tensors(name: str, integers: torch.Tensor, scales: Scales, settings: QuantizeConfig) -> Tensors:
    if settings.numbers == "fp8":
        return {f"{name}.weight": integers.contiguous(), f"{name}.weight_scale": scales.scale}
    made = {
        f"{name}.weight_packed": pack_to_int32(integers, settings.bits),
        f"{name}.weight_scale": scales.scale,
        f"{name}.weight_shape": torch.tensor(integers.shape),
    }
    if not settings.symmetric:
        zero = scales.zero.to(torch.int8)
        made[f"{name}.weight_zero_point"] = pack_to_int32(zero, settings.bits, packed_dim=0)
    return made


def _describe(
    path: Path, model: ModelConfig, settings: QuantizeConfig, packed: Mapping[str, Tensors]
) -> None:
    """`quantization_config` of config.json; other matrices are to be ignored."""
    float8 = settings.numbers == "fp8"
    kind = "float" if float8 else "int"
    grain: dict[str, Any] = (
        {"strategy": "group", "group_size": settings.group} if settings.group else {"strategy": "channel"}
    )
    weights = {
        "num_bits": settings.bits,
        "type": kind,
        "symmetric": settings.symmetric,
        "dynamic": False,
        **grain,
    }
    activations = None
    if settings.activation_bits:
        activations = {"num_bits": 8, "type": kind, "symmetric": float8, "strategy": "token", "dynamic": True}
    others = [name.removesuffix(WEIGHT) for entry in entries(model) for part in entry.parts for name in part.names
              if name.endswith(WEIGHT) and len(part.shape) == 2 and name not in packed]  # fmt: skip
    layout = "float-quantized" if float8 else "pack-quantized"
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations, "format": layout}
    written = json.loads(path.read_text())
    written["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": sorted(others),
    }
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _count(packed: Mapping[str, Tensors]) -> int:
    return sum(len(tensors) for tensors in packed.values())
