"""The pages that surgery looks at: of a shard set, or of those that the run was trained on."""

from pathlib import Path

from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.tokenizer import Tokenizer
from train.config import Config
from train.probe import collate, first_fitting
from train.surgery.config import SurgeryConfig, training_sets


def batches(config: SurgeryConfig, run: Config, tokenizer: Tokenizer) -> list[MicroBatch]:
    """The first `config.pages` samples that fit, from each set equally many. Raises DataError where none fits."""
    folders = [Path(config.data)] if config.data is not None else training_sets(run)
    data, encoder = run.data, run.model.encoder
    spec = BatchSpec(tuple(data.modes), encoder.patch, data.max_length, texts=encoder.kind != "optical")
    collator, found = Collator(tokenizer, spec), []
    for number, folder in enumerate(folders):
        count = config.pages * (number + 1) // len(folders) - config.pages * number // len(folders)
        if count:
            found += collate(first_fitting(folder, count, collator), folder.name, collator, config.batch_size)
    return found
