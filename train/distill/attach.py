"""What a stage with a teacher has beside one without: the teacher, another collator, another objective, maps to its widths."""

from dataclasses import replace
from pathlib import Path

import torch

from data_pipeline.batch import BatchSpec, Collator
from data_pipeline.prediction_sets import require
from data_pipeline.predictions import PredictionReader
from data_pipeline.taught import TaughtCollator
from data_pipeline.tokenizer import Tokenizer
from train.config import Config
from train.distill.teacher import Teacher
from train.load import load_trained
from train.model.helpers import Helpers
from train.model.initialise import initialise
from train.model.optical import OpticalModel
from train.objective import Distill, NextToken


def teacher_of(config: Config, spec: BatchSpec) -> Teacher | None:
    """The teacher that `distill.teacher` names; None without. spec: of the student."""
    if config.distill.teacher is None:
        return None
    trained = load_trained(Path(config.distill.teacher), config.parallel, "distill.teacher")
    trained.model.requires_grad_(False)
    decoder, unit = trained.config.model.decoder, spec.row_multiple
    taken = replace(
        trained.spec,
        modes=tuple(config.distill.teacher_modes or spec.modes),
        max_length=decoder.max_length // unit * unit,  # ranks that share out positions need as many each
        row_multiple=unit,
    )
    return Teacher(trained.model, taken, decoder.width)


def objective_of(config: Config, next_token: NextToken, teacher: Teacher | None) -> NextToken | Distill:
    """What is minimised: `next_token` alone where nobody teaches."""
    taught = teacher is not None or config.distill.cache is not None
    return Distill(next_token, config.distill, teacher) if taught else next_token


def collator_of(config: Config, tokenizer: Tokenizer, spec: BatchSpec, teacher: Teacher | None) -> Collator:
    """What makes the batches that are trained on. Raises DataError where what a teacher told is of other data."""
    if teacher is not None:
        return TaughtCollator(tokenizer, spec, teacher=teacher.spec)
    if config.distill.cache is None:
        return Collator(tokenizer, spec)
    folder = Path(config.distill.cache)
    require(folder, {name: source.path for name, source in config.data.train.items()})
    return TaughtCollator(tokenizer, spec, told=PredictionReader(folder))


def attach_helpers(config: Config, model: torch.nn.Module, teacher: Teacher | None) -> None:
    """Gives a student that is matched to features of another width the maps that this takes."""
    hidden, features = config.distill.hidden > 0, config.distill.features > 0
    width = config.model.decoder.width
    if teacher is None or teacher.width == width or not (hidden or features):
        return
    assert isinstance(model, OpticalModel), "a teacher runs along where its student is whole"
    model.helpers = Helpers(model.config, width, teacher.width, hidden, features)
    initialise(model.helpers, config.seed)
