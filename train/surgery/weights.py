"""A run's weights as whole tensors, and a run folder made of such: what `train.load`, a stage and every other command take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import load_tokenizer
from parallel import checkpoint
from parallel import pieces as store
from parallel.device import device
from parallel.pieces import Piece
from parallel.snapshot import cut, describe
from parallel.topology import Topology
from train.config import Config, EngineConfig, ModelConfig, RunConfig, StageConfig
from train.model.optical import OpticalModel, build
from train.run_folder import write_text

MODEL = "model."
CARRIED = "released."  # what the release has beside our model (train/convert)


@dataclass(frozen=True)
class Stored:
    """A checkpoint in memory. weights: by key without "model."; carried: what is not of the model, by key."""

    folder: Path
    weights: dict[str, Tensor]
    carried: dict[str, Tensor]


def read(path: Path, config: Config) -> Stored:
    """The newest valid checkpoint of `path`, on the CPU in its own format. Process groups must exist.

    Raises UserError for weights that are not those of `config.model` alone, such as factors that were not merged.
    """
    folder = checkpoint.require(path)
    described = store.contents(folder)
    _require_plain(folder, {key.removeprefix(MODEL) for key in described if key.startswith(MODEL)}, config)
    weights = {key.removeprefix(MODEL): tensor for key, tensor in _tensors(folder, MODEL).items()}
    return Stored(folder, weights, carried(folder))


def carried(folder: Path) -> dict[str, Tensor]:
    """What a checkpoint holds that is not of our model, by key."""
    return _tensors(folder, CARRIED)


def _tensors(folder: Path, prefix: str) -> dict[str, Tensor]:
    described = store.contents(folder)
    pieces = [
        Piece.whole(key, torch.empty(entry.size, dtype=entry.properties.dtype))
        for key, entry in described.items()
        if key.startswith(prefix)
    ]
    store.read(folder, pieces)
    return {piece.key: piece.tensor for piece in pieces}


def shapes_of(model: ModelConfig, image_token: int) -> dict[str, tuple[int, ...]]:
    """Key and shape of every tensor in a checkpoint of `model`."""
    module = build(model, image_token, device="meta")
    pieces = (piece for entry in describe(module) for piece in cut(entry, entry.data, ""))
    return {piece.key: piece.shape for piece in pieces}


def module_of(model: ModelConfig, weights: Mapping[str, Tensor], image_token: int) -> OpticalModel:
    """A model with these weights, in fp32 and evaluation mode, where models are computed."""
    module = build(model, image_token, device=device())
    assert isinstance(module, OpticalModel)
    with torch.no_grad():
        for entry in describe(module):
            for piece in cut(entry, entry.data, ""):
                place = tuple(
                    slice(first, first + size)
                    for first, size in zip(piece.offset, piece.view().shape, strict=True)
                )
                piece.view().copy_(weights[piece.key][place])
    return module.eval()


def _require_plain(folder: Path, found: set[str], config: Config) -> None:
    known = set(shapes_of(config.model, load_tokenizer(config.data.tokenizer).image))
    extra, absent = sorted(found - known), sorted(known - found)
    if extra:
        raise UserError(
            f"{folder} holds {len(extra)} tensors beside the model's weights, such as {extra[0]}: what a stage added (tune=, "
            "quantize=, prune=) is no part of the sizes. Merge it into the weights first, and give the merged run as from=."
        )
    if absent:
        raise UserError(
            f"{folder} has no {absent[0]}: it is not a checkpoint of the model in its run's config.yaml."
        )


def write(
    working: Path,
    target: Path,
    stored: Stored,
    weights: Mapping[str, Tensor],
    config: Config,
    model: ModelConfig,
) -> None:
    """Fills `working`, which will become the run `target`: `weights` of `model` as the checkpoint of step 0, and the data settings
    of `config`. Raises UserError where weights and model do not fit each other, which would be our mistake.
    """
    shapes = shapes_of(model, load_tokenizer(config.data.tokenizer).image)
    wrong = [
        key
        for key in {*shapes, *weights}
        if key not in shapes or key not in weights or shapes[key] != weights[key].shape
    ]
    if wrong:
        there = {key: tuple(weights[key].shape) if key in weights else None for key in wrong[:1]}
        raise UserError(
            f"{len(wrong)} tensors do not fit the model, such as {there}, wanted {shapes.get(wrong[0])}"
        )
    pieces = [Piece.whole(MODEL + key, tensor.contiguous()) for key, tensor in weights.items()]
    pieces += [Piece.whole(key, tensor) for key, tensor in stored.carried.items()]
    extra = checkpoint.facts(stored.folder).get("extra", {})
    kept = {"lacked": extra["lacked"]} if "lacked" in extra else {}
    facts = {"step": 0, "updates": 0, "topology": asdict(Topology()), "extra": kept}
    checkpoint.save(working / "checkpoints", 0, pieces, facts, keep=1)
    write_text(
        working / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(described(config, model, target)))
    )


def described(config: Config, model: ModelConfig, target: Path) -> Config:
    """The configuration of a run that has not begun, with `model` and the data and number format of `config`."""
    return Config(
        run=RunConfig(name=target.name, directory=str(target.parent)),
        model=replace(model),
        data=config.data,
        engine=EngineConfig(precision=config.engine.precision),
        stage=StageConfig(name="surgery", steps=0),
        seed=config.seed,
    )


def parameters(weights: Sequence[Tensor]) -> int:
    """How many numbers there are."""
    return sum(math.prod(tensor.shape) for tensor in weights)
