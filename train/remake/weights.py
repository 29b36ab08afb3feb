"""A run's weights as whole tensors, and a run folder made of such: what `train.load`, a stage and every other command take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from data_pipeline.tokenizer import load_tokenizer
from parallel import checkpoint
from parallel import pieces as store
from parallel.device import device
from parallel.pieces import Piece
from parallel.snapshot import cut, describe
from parallel.topology import Topology
from train.config import Config, EngineConfig, ModelConfig, QuantizeConfig, RunConfig, StageConfig
from train.find_run import locate
from train.model.optical import OpticalModel, build
from train.run_folder import write_text
from train.start import load_start

MODEL = "model."
CARRIED = "released."  # what the release has beside our model (train/convert)


@dataclass(frozen=True)
class Stored:
    """A checkpoint in memory. weights: by key without "model."; carried: what is not of the model, by key."""

    folder: Path
    weights: dict[str, Tensor]
    carried: dict[str, Tensor]


def read(path: Path, config: Config) -> Stored:
    """The newest valid checkpoint of the run `path`, on the CPU in its own format, with what stages have put around the weights
    (factors, masks) worked into them. Process groups must exist.

    Raises ConfigError for a model that reads through adapters, a prefix or a prompt: these are no part of any weight.
    """
    model = build(config.model, load_tokenizer(config.data.tokenizer).image)
    load_start(path, model)
    folder = checkpoint.require(locate(path, "from").checkpoints)
    described = store.contents(folder)
    weights = weights_of(model)
    for key, tensor in weights.items():
        if MODEL + key in described:  # of a run that saved its factors apart, the weights are elsewhere
            weights[key] = tensor.to(described[MODEL + key].properties.dtype)
    return Stored(folder, weights, carried_in(folder))


def carried_in(folder: Path) -> dict[str, Tensor]:
    """What a checkpoint holds that is not of our model, by key."""
    pieces = [
        Piece.whole(key, torch.empty(entry.size, dtype=entry.properties.dtype))
        for key, entry in store.contents(folder).items()
        if key.startswith(CARRIED)
    ]
    store.read(folder, pieces)
    return {piece.key: piece.tensor for piece in pieces}


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """Every parameter as a checkpoint has it, by key; of a whole model in one process. Views where a key is one parameter."""
    found: dict[str, Tensor] = {}
    for entry in describe(module):
        for piece in cut(entry, entry.data, ""):
            if piece.view().shape == piece.shape:
                found[piece.key] = piece.view()
            else:  # gate and up of a feed-forward come one by one
                whole = found.setdefault(piece.key, torch.empty(piece.shape, dtype=piece.tensor.dtype))
                whole[_place(piece)] = piece.view()
    return found


def _place(piece: Piece) -> tuple[slice, ...]:
    """Where a piece lies in its global tensor."""
    return tuple(
        slice(first, first + size) for first, size in zip(piece.offset, piece.view().shape, strict=True)
    )


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
                piece.view().copy_(weights[piece.key][_place(piece)])
    return module.eval()


def write(
    working: Path,
    target: Path,
    stored: Stored,
    weights: Mapping[str, Tensor],
    config: Config,
    model: ModelConfig,
    *,
    stage: str = "surgery",
    quantize: QuantizeConfig | None = None,
) -> None:
    """Fills `working`, which will become the run `target`: `weights` of `model` as the checkpoint of step 0, and the data settings
    of `config`. stage: what the run is called in its configuration. quantize: how the weights are rounded where they are used.

    Raises RuntimeError where weights and model do not fit each other: our mistake.
    """
    shapes = shapes_of(model, load_tokenizer(config.data.tokenizer).image)
    wrong = [
        key
        for key in {*shapes, *weights}
        if key not in shapes or key not in weights or shapes[key] != weights[key].shape
    ]
    if wrong:
        there = {key: tuple(weights[key].shape) if key in weights else None for key in wrong[:1]}
        raise RuntimeError(
            f"{len(wrong)} tensors do not fit the model, such as {there}, wanted {shapes.get(wrong[0])}"
        )
    pieces = [Piece.whole(MODEL + key, tensor.contiguous()) for key, tensor in weights.items()]
    pieces += [Piece.whole(key, tensor) for key, tensor in stored.carried.items()]
    extra = checkpoint.facts(stored.folder).get("extra", {})
    kept = {"lacked": extra["lacked"]} if "lacked" in extra else {}
    facts = {"step": 0, "updates": 0, "topology": asdict(Topology()), "extra": kept}
    checkpoint.save(working / "checkpoints", 0, pieces, facts, keep=1)
    write_text(
        working / "config.yaml",
        OmegaConf.to_yaml(OmegaConf.structured(described(config, model, target, stage, quantize))),
    )


def described(
    config: Config, model: ModelConfig, target: Path, stage: str, quantize: QuantizeConfig | None
) -> Config:
    """The configuration of a run that has not begun, with `model` and the data and number format of `config`."""
    return Config(
        run=RunConfig(name=target.name, directory=str(target.parent)),
        model=replace(model),
        data=config.data,
        engine=EngineConfig(precision=config.engine.precision),
        quantize=quantize or QuantizeConfig(),
        stage=StageConfig(name=stage, steps=0),
        seed=config.seed,
    )


def parameters(weights: Sequence[Tensor]) -> int:
    """How many numbers there are."""
    return sum(math.prod(tensor.shape) for tensor in weights)
