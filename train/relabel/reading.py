"""A teacher that reads pages: records in, the same pages with its texts out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.record import Record, encode
from data_pipeline.resolution import grid_of, positions
from parallel import checkpoint as checkpoints
from train.config import ParallelConfig
from train.distill.identity import checkpoint_digest
from train.find_run import locate
from train.generate.decoding import read
from train.generate.options import Decoding
from train.load import Trained, load_trained
from train.relabel.config import RelabelConfig


@dataclass(frozen=True)
class PageTeacher:
    """A model with how it sees a page and how long it reads."""

    trained: Trained
    config: RelabelConfig
    model: str  # digest of the checkpoint

    @classmethod
    def of(cls, config: RelabelConfig, sizes: ParallelConfig) -> "PageTeacher":
        """Loads the teacher, split over tensor ranks."""
        found = checkpoints.newest(locate(Path(config.teacher), "teacher").checkpoints)
        trained = load_trained(Path(config.teacher), sizes, "teacher")
        assert found is not None  # load_trained refuses a run without a checkpoint
        spec = replace(trained.spec, modes=(config.mode or trained.spec.modes[0],))
        return cls(replace(trained, spec=spec), config, checkpoint_digest(found))

    @property
    def name(self) -> str:
        """Who has read, as `source` of a sample says it."""
        return f"{self.trained.run_folder.name} step {self.trained.step}"

    def facts(self) -> dict[str, Any]:
        """For the manifest: all that decides what is read off a page."""
        return {
            "kind": "read by a teacher",
            "teacher": self.name,
            "model": self.model,
            "mode": self.trained.spec.modes[0],
            "max_new_tokens": self.config.max_new_tokens,
        }

    def samples(self, records: Iterator[Record], refused: Counter[str]) -> Iterator[dict[str, Any]]:
        """The pages with the texts read off them, in order; those without one are counted in `refused`."""
        while some := list(islice(records, self.config.batch_size)):
            readable = [record for record in some if self._readable(record, refused)]
            for _, asked in groupby(readable, key=lambda record: record.prompt):
                yield from self._read(list(asked), refused)

    def _readable(self, record: Record, refused: Counter[str]) -> bool:
        if len(record.pages) != 1:
            refused["several pages" if record.pages else "no page"] += 1
            return False
        spec, (height, width) = self.trained.spec, record.pages[0].shape[:2]
        taken = positions(spec.parsed[0], spec.patch, grid_of(width, height, spec.parsed[0])) + spec.reserved + 1
        fits = taken + len(self.trained.tokenizer.encode(record.prompt)) < spec.max_length
        refused.update([] if fits else ["too long"])
        return fits

    def _read(self, records: list[Record], refused: Counter[str]) -> Iterator[dict[str, Any]]:
        trained, pages = self.trained, [record.pages[0] for record in records]
        decoding = Decoding(max_new_tokens=self.config.max_new_tokens)
        try:
            readings = read(
                trained.model, trained.tokenizer, pages, records[0].prompt, trained.spec, decoding, len(pages)
            )
        except DataError as error:
            raise DataError(f"mode={trained.spec.modes[0]}: {error}") from None
        for record, reading in zip(records, readings, strict=True):
            if not reading.finished:
                refused["no end"] += 1
                continue
            source = f"{record.source}; text by {self.name}"
            yield encode(replace(record, target=reading.text, source=source, boxes=()))
