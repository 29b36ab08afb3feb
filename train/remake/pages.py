"""Pages to look at before a run is remade: of a shard set, or of those that the run was trained on."""

from pathlib import Path

from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.tokenizer import Tokenizer
from train.config import Config
from train.find_run import training_sets
from train.probe import collate, first_fitting


def batches(
    data: str | None, pages: int, batch_size: int, run: Config, tokenizer: Tokenizer
) -> list[MicroBatch]:
    """The first `pages` samples that fit, of the set `data` or of those that `run` was trained on, from each equally many. Raises
    DataError where none fits.
    """
    folders = [Path(data)] if data is not None else training_sets(run)
    settings, encoder = run.data, run.model.encoder
    spec = BatchSpec(
        tuple(settings.modes), encoder.patch, settings.max_length, texts=encoder.kind != "optical"
    )
    collator, found = Collator(tokenizer, spec), []
    for number, folder in enumerate(folders):
        count = pages * (number + 1) // len(folders) - pages * number // len(folders)
        if count:
            found += collate(first_fitting(folder, count, collator), folder.name, collator, batch_size)
    return found
