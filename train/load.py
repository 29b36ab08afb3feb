"""A trained model for reading: from a run folder or one of its checkpoints, in one process or in
data-parallel ones.
"""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from data_pipeline.batch import BatchSpec
from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer, load_tokenizer
from parallel import checkpoint as checkpoints
from parallel.device import device
from parallel.snapshot import load_module
from train.config import Config
from train.model.optical import OpticalModel, build


@dataclass(frozen=True)
class Trained:
    """A model with its weights, in evaluation mode, and what is needed to feed it."""

    model: OpticalModel
    tokenizer: Tokenizer
    spec: BatchSpec
    config: Config
    run_folder: Path
    step: int


def load_trained(path: Path) -> Trained:
    """The model in `path`: a run folder (runs/smoke/pretrain), its checkpoints folder, or one checkpoint in
    that.

    Process groups must exist (`parallel.topology.start`), with nothing but data parallelism. Raises UserError
    for a path that is none of these, CheckpointError where no checkpoint is whole.
    """
    run_folder = run_folder_of(path)
    config = read_config(run_folder / "config.yaml")
    root = run_folder / "checkpoints" if path.resolve() == run_folder.resolve() else path
    folder = checkpoints.newest(root)
    if folder is None:
        raise UserError(
            f"checkpoint={path}: the run has no checkpoint yet; train it further: `python -m train`"
        )
    tokenizer = load_tokenizer(config.data.tokenizer)
    precision = (
        config.engine.precision if device().type == "cuda" else "fp32"
    )  # bf16 is slower than fp32 on CPU
    model = build(config.model, tokenizer.image, precision=precision, device=device(), seed=config.seed)
    assert isinstance(model, OpticalModel)
    load_module(folder, model)
    model.eval()
    spec = BatchSpec(config.data.image_size, config.model.encoder.patch, config.data.max_length)
    return Trained(model, tokenizer, spec, config, run_folder, checkpoints.step_of(folder))


def run_folder_of(path: Path) -> Path:
    """The run folder that `path` is or lies in. Raises UserError, naming the stages where `path` is a
    recipe's folder.
    """
    if not path.is_dir():
        raise UserError(
            f"checkpoint={path}: no such folder; give a run folder, for example checkpoint=runs/smoke/pretrain"
        )
    for folder in (path, *path.resolve().parents[:2]):
        if (folder / "config.yaml").is_file():
            return folder
    inside = sorted(found.parent.name for found in path.glob("*/config.yaml"))
    if inside:
        choices = " or ".join(f"checkpoint={path / name}" for name in inside)
        raise UserError(f"checkpoint={path} is no run itself but holds some; choose {choices}")
    raise UserError(
        f"checkpoint={path}: no run here (no config.yaml); give the folder that `python -m train` wrote"
    )


def read_config(path: Path) -> Config:
    """A run's config.yaml as it was resolved for the run. Raises UserError where it cannot be read."""
    try:
        loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path)))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path}: not the configuration of a run ({str(error).splitlines()[0]})") from error
    assert isinstance(loaded, Config)
    return loaded
