"""A trained model for reading: from a run folder or one of its checkpoints, in one process, in data-parallel ones, or
split over tensor ranks.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.batch import BatchSpec
from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer, load_tokenizer
from parallel import checkpoint as checkpoints
from parallel.device import device
from parallel.layers import fold
from parallel.topology import environment
from train.config import Config, ParallelConfig
from train.find_run import locate, read_config, run_folder_of
from train.model.optical import OpticalModel, build
from train.start import load_whole

__all__ = ["Trained", "load_trained", "read_config", "run_folder_of"]
ONE_PROCESS = ParallelConfig()


@dataclass(frozen=True)
class Trained:
    """A model with its weights, in evaluation mode, and what is needed to feed it."""

    model: OpticalModel
    tokenizer: Tokenizer
    spec: BatchSpec
    config: Config
    run_folder: Path
    step: int


def load_trained(path: Path, sizes: ParallelConfig = ONE_PROCESS, option: str = "checkpoint") -> Trained:
    """The model in `path`: a run folder (runs/smoke/pretrain), its checkpoints folder, one checkpoint in that, or a
    recipe's folder (runs/smoke), of which the newest finished stage is taken; a line on stderr says which.

    sizes: tensor and expert ranks that share the model; process groups of these sizes must exist
    (`parallel.topology.start`). option: what the user typed the path for. Raises UserError for a path that is none of
    these, CheckpointError where no checkpoint is whole.
    """
    found = locate(path, option)
    config = read_config(found.folder / "config.yaml")
    folder = checkpoints.newest(found.checkpoints)
    if folder is None:
        raise UserError(
            f"{option}={path}: the run has no checkpoint yet; train it further: `python -m train`"
        )
    choice = found.choice(option)
    if choice and environment()[0] == 0:
        print(choice, file=sys.stderr)
    tokenizer = load_tokenizer(config.data.tokenizer)
    precision = (
        config.engine.precision if device().type == "cuda" else "fp32"
    )  # bf16 is slower than fp32 on CPU
    model = build(
        config.model, tokenizer.image, sizes, precision=precision, device=device(), seed=config.seed
    )
    assert isinstance(model, OpticalModel)
    load_whole(config, folder, model)
    fold(model)
    model.eval()
    encoder, data = config.model.encoder, config.data
    spec = BatchSpec(
        tuple(data.modes),
        encoder.patch,
        data.max_length,
        texts=encoder.kind != "optical",
        reserved=config.tune.reserved,
    )
    return Trained(model, tokenizer, spec, config, found.folder, checkpoints.step_of(folder))
