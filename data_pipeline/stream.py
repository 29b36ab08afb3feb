"""Shards become an endless, deterministic stream of micro-batches that can go on from anywhere.

The global order is cut into global batches; rank r takes its contiguous block of each, in micro-batches. What
comes next depends on the cursor alone, never on how many ranks there are, on the prefetching thread, or on
restarts.

webdataset carries the samples: a `DataPipeline` whose first stage is ours (it reads by order and index,
because webdataset itself walks shards in sequence, cannot resume, and loses samples silently after a damaged
header), and whose decoder is explicit. So webdataset's shell (`pipe:`) and pickle features are never reached,
and reading works with its WDS_SECURE=1, which switches them off for a process (and its opening of local files
with them).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import webdataset

from data_pipeline.bad_samples import BadSample, BadSamples
from data_pipeline.batch import MicroBatch, hole
from data_pipeline.cursor import Cursor
from data_pipeline.errors import DataError, SampleError
from data_pipeline.identity import batch_hash
from data_pipeline.order import Mixture, Order, seed_for
from data_pipeline.prefetch import Prefetcher
from data_pipeline.reader import ShardReader
from data_pipeline.record import Record, decode

__all__ = ["Cursor", "Stream"]

Collate = Callable[[Sequence[Record], Sequence[str]], MicroBatch]


@dataclass(frozen=True)
class _Share:
    """One rank's part of every global batch: its indices first to last, in micro-batches."""

    global_batch: int
    micro_batch: int
    first: int
    last: int

    @classmethod
    def of(cls, rank: int, world: int, global_batch: int, micro_batch: int) -> "_Share":
        unit = world * micro_batch
        if micro_batch < 1 or global_batch < 1 or global_batch % unit:
            nearest = max(1, round(global_batch / max(unit, 1))) * max(unit, 1)
            raise DataError(
                f"data.global_batch={global_batch} cannot be dealt to {world} data-parallel ranks "
                f"in micro-batches of data.micro_batch={micro_batch}; nearest is data.global_batch={nearest}"
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        size = global_batch // world
        return cls(global_batch, micro_batch, rank * size, (rank + 1) * size)


@dataclass(frozen=True)
class _Step:
    """This rank's part of one global batch, and the samples of it that holes stand for."""

    batches: list[MicroBatch]
    bad: list[BadSample]


class Stream:
    """Micro-batches of a mixture of shard sets, for one rank, step by step.

    sources: folder of each shard set by name. weights: whole numbers; each cycle of their sum holds exactly
    each source's share. global_batch: samples of a step over all ranks. window: shards shuffled together.
    max_bad_fraction: share of samples that may be unusable (they become rows without loss) before DataError
    stops the run; each is named in `bad_log`. prefetch: steps made ahead by a thread (0: none).

    Raises DataError for an impossible batch size, an empty, missing or truncated shard set, or an unknown
    source.
    """

    def __init__(
        self,
        sources: Mapping[str, Path],
        weights: Mapping[str, int],
        collator: Collate,
        *,
        global_batch: int,
        micro_batch: int,
        rank: int,
        world: int,
        seed: int,
        window: int = 4,
        max_bad_fraction: float = 1e-3,
        bad_log: Path | None = None,
        prefetch: int = 2,
    ) -> None:
        self._share = _Share.of(rank, world, global_batch, micro_batch)
        self._collator = collator
        self._window = window
        self._prefetch = prefetch
        self._bad = BadSamples(max_bad_fraction, bad_log)
        self._readers = {
            name: ShardReader(name, folder, max_bad_fraction) for name, folder in sources.items()
        }
        self._digests = {name: reader.manifest.digest() for name, reader in self._readers.items()}
        self._steps: Iterator[_Step] | None = None
        self._cursor = Cursor(seed, 0, 0, self._known(weights), digests=self._digests)
        self._orders()  # an impossible window is refused here, not at the first step

    @property
    def cursor(self) -> Cursor:
        """Where the stream is: after the last step that `next_step` returned, whatever was prefetched."""
        return self._cursor

    def next_step(self) -> list[MicroBatch]:
        """This rank's micro-batches of the next global batch. Raises DataError above the ceiling of bad
        samples.
        """
        if self._steps is None:
            self._steps = self._start()
        try:
            step = next(self._steps)
            bad = self._bad.add(step.bad, self._share.last - self._share.first)
        except BaseException:
            self._halt()
            raise
        self._cursor = self._cursor.advanced(self._share.global_batch, bad)
        return step.batches

    def batch_hash(self, batches: Sequence[MicroBatch]) -> int:
        """This rank's part of the number of the global batch that `next_step` gave `batches` of; see
        `identity.batch_hash`.
        """
        rows = [f"{source}/{key}" for batch in batches for source, key in zip(batch.sources, batch.keys)]
        return batch_hash(rows, self._share.first)

    def seek(self, cursor: Cursor) -> None:
        """Go on from a cursor, of any world size and batch size.

        Raises DataError when a source it draws from is unknown here or is no longer the same shards.
        """
        self._known(cursor.weights)
        for name, digest in cursor.digests.items():
            if name in self._digests and self._digests[name] != digest:
                folder = self._readers[name].folder
                raise DataError(
                    f"source {name} ({folder}) is not the shard set that this run has read so far; "
                    f"restore it, or start a new run with run.resume=false"
                )
        self._halt()
        self._cursor = replace(cursor, digests={**cursor.digests, **self._digests})

    def set_weights(self, weights: Mapping[str, int]) -> None:
        """Begin a new phase with the next step: other weights, each source going on where it is."""
        following = self._cursor.next_phase(self._known(weights))
        self._halt()
        self._cursor = following

    def close(self) -> None:
        """Stop the thread and close the shards. `next_step` opens them again."""
        self._halt()
        for reader in self._readers.values():
            reader.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known(self, weights: Mapping[str, int]) -> dict[str, int]:
        Mixture(weights, 0)  # refuses weights that are impossible in themselves
        for name, weight in weights.items():
            if weight and name not in self._readers:
                raise DataError(
                    f"source {name} has a weight but no shard set; known: {', '.join(self._readers)}"
                )
        return dict(weights)

    def _orders(self) -> dict[str, Order]:
        """The order of each source's samples, independent of what other sources there are."""
        return {
            name: Order(
                [shard.samples for shard in reader.manifest.shards],
                seed_for(self._cursor.seed, name),
                self._window,
            )
            for name, reader in self._readers.items()
        }

    def _start(self) -> Iterator[_Step]:
        """Steps from the cursor on. They refer to the readers, not to the stream: see Prefetcher."""
        source_stage = partial(_read_in_order, self._cursor, self._share, self._readers, self._orders())
        samples = webdataset.DataPipeline(source_stage, webdataset.map(_decode_or_hole))
        steps = _collate(iter(samples), self._share, self._collator)
        return Prefetcher(steps, self._prefetch) if self._prefetch > 0 else steps

    def _halt(self) -> None:
        if isinstance(self._steps, Prefetcher):
            self._steps.close()
        self._steps = None


def _read_in_order(
    cursor: Cursor, share: _Share, readers: Mapping[str, ShardReader], orders: Mapping[str, Order]
) -> Iterator[dict[str, Any]]:
    """The source stage: this rank's raw samples from the cursor on, endless; an unreadable one carries its
    error.
    """
    mixture = cursor.mixture()
    start = cursor.index
    while True:
        for index in range(start + share.first, start + share.last):
            name, position = mixture.at(index)
            _, shard, number = orders[name].at(cursor.base.get(name, 0) + position)
            reader = readers[name]
            origin = {"__source__": name, "__shard__": reader.manifest.shards[shard].name}
            try:
                yield {**reader.read(shard, number), **origin}
            except SampleError as error:
                yield {"__key__": reader.key(shard, number), **origin, "__error__": error}
        start += share.global_batch


def _decode_or_hole(sample: dict[str, Any]) -> dict[str, Any]:
    """The decoding stage: {"record", "source", "bad": BadSample or None}."""
    source, key = sample["__source__"], sample["__key__"]
    try:
        if "__error__" in sample:
            raise sample["__error__"]
        return {"record": decode(sample), "source": source, "bad": None}
    except SampleError as error:
        bad = BadSample(source, sample["__shard__"], key, error.reason, str(error))
        return {"record": hole(key, source), "source": source, "bad": bad}


def _collate(samples: Iterator[dict[str, Any]], share: _Share, collator: Collate) -> Iterator[_Step]:
    """Whole steps from the flow of this rank's samples."""
    while True:
        batches, bad = [], []
        for _ in range((share.last - share.first) // share.micro_batch):
            drawn = list(islice(samples, share.micro_batch))
            bad += [sample["bad"] for sample in drawn if sample["bad"]]
            batches.append(
                collator([sample["record"] for sample in drawn], [sample["source"] for sample in drawn])
            )
        yield _Step(batches, bad)
