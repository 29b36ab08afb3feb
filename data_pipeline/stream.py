"""Shards become an endless, deterministic stream of micro-batches that can go on from anywhere.

The global order is cut into global batches; rank r takes its contiguous block of each, in micro-batches. What
comes next depends on the cursor alone, never on how many ranks there are, on the prefetching thread or the worker
processes, or on restarts.
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.bad_samples import BadSamples
from data_pipeline.batch import Collator, MicroBatch
from data_pipeline.cursor import Cursor
from data_pipeline.data_config import DataConfig, Degradation
from data_pipeline.errors import DataError
from data_pipeline.flow import Flow, Step
from data_pipeline.identity import batch_hash
from data_pipeline.order import Mixture
from data_pipeline.packing import Packing
from data_pipeline.prefetch import Prefetcher
from data_pipeline.reader import ShardReader
from data_pipeline.remote import DEFAULTS, Remote
from data_pipeline.steps import Share

if TYPE_CHECKING:
    from data_pipeline.workers import Workers

__all__ = ["Cursor", "Stream", "remote_of"]

_DIGITS = 16  # of a manifest's digest that a cursor keeps: it stays small with dozens of sources


def remote_of(data: DataConfig) -> Remote:
    """How shard sets at addresses are read."""
    return Remote(data.cache, data.cache_gigabytes, data.allow_pipe)


class Stream:
    """Micro-batches of a mixture of shard sets, for one rank, step by step.

    sources: folder of each shard set by name. weights: whole numbers; each cycle of their sum holds exactly
    each source's share. global_batch: rows of a step over all ranks. window: shards shuffled together.
    packing: fill rows with several samples. degradation: of pages, as they are read.
    max_bad_fraction: share of samples that may be unusable (they become rows without loss) before DataError
    stops the run; each is named in `bad_log`. workers: processes that make steps; with 0 a thread does.
    prefetch: steps made ahead by each (0: none, and no thread). remote: how sources at addresses are read.

    Raises DataError for an impossible batch size, an empty, missing or truncated shard set, or an unknown
    source.
    """

    def __init__(
        self,
        sources: Mapping[str, str | Path],
        weights: Mapping[str, int],
        collator: Collator,
        *,
        global_batch: int,
        micro_batch: int,
        rank: int,
        world: int,
        seed: int,
        window: int = 4,
        packing: Packing | None = None,
        degradation: Degradation | None = None,
        max_bad_fraction: float = 1e-3,
        bad_log: Path | None = None,
        workers: int = 0,
        prefetch: int = 2,
        remote: Remote = DEFAULTS,
    ) -> None:
        self._share = Share.of(rank, world, global_batch, micro_batch)
        self._collator = collator
        self._window = window
        self._packing = packing
        self._degradation = degradation or Degradation()
        self._workers, self._prefetch = workers, prefetch
        self._bad = BadSamples(max_bad_fraction, bad_log)
        self._readers = {
            name: ShardReader(name, folder, max_bad_fraction, remote) for name, folder in sources.items()
        }
        self._digests = {name: reader.manifest.digest()[:_DIGITS] for name, reader in self._readers.items()}
        self._steps: Generator[Step, None, None] | Prefetcher[Step] | Workers[Step] | None = None
        self._cursor = Cursor(seed, 0, 0, self._known(weights), digests=self._digests)
        self._flow().orders()  # an impossible window is refused here, not at the first step

    @classmethod
    def of(
        cls,
        data: DataConfig,
        weights: Mapping[str, int],
        collator: Collator,
        rank: int,
        world: int,
        seed: int,
        bad_log: Path,
    ) -> "Stream":
        """The training stream that `data` describes, at its start. weights: of the sources to begin with."""
        return cls(
            {name: source.path for name, source in data.train.items()},
            weights,
            collator,
            global_batch=data.global_batch,
            micro_batch=data.micro_batch,
            rank=rank,
            world=world,
            seed=seed,
            window=data.shuffle_window,
            packing=Packing(data.pack_window, data.pack_pages) if data.pack else None,
            degradation=data.degrade,
            max_bad_fraction=data.max_bad_fraction,
            bad_log=bad_log,
            workers=data.workers,
            prefetch=data.prefetch,
            remote=remote_of(data),
        )

    @property
    def cursor(self) -> Cursor:
        """Where the stream is: after the last step that `next_step` returned, whatever was prefetched."""
        return self._cursor

    def epochs(self) -> dict[str, float]:
        """How often each source has been read so far: samples that steps took of it over those it has."""
        here, taken = self._cursor.base, self._cursor.mixture().taken(self._cursor.index)
        return {
            name: (here.get(name, 0) + taken.get(name, 0)) / reader.manifest.samples for name, reader in self._readers.items()
        }

    def next_step(self) -> list[MicroBatch]:
        """This rank's micro-batches of the next global batch. Raises DataError above the ceiling of bad
        samples.
        """
        if self._steps is None:
            self._steps = self._start()
        try:
            step = next(self._steps)
            bad = self._bad.add(step.bad, step.samples)
        except BaseException:
            self._halt()
            raise
        self._cursor = self._cursor.advanced(step.index, bad, step.packs, self._packing_mark())
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
            if name in self._digests and self._digests[name] != digest[:_DIGITS]:
                folder = self._readers[name].folder
                raise DataError(
                    f"source {name} ({folder}) is not the shard set that this run has read so far; "
                    f"restore it, or start a new run with run.resume=false"
                )
        if cursor.packs and cursor.packing != self._packing_mark():
            raise DataError(
                "this run was stopped among packed rows that were made with another data.pack=, data.pack_window=, "
                "data.pack_pages=, data.max_length=, data.modes= or tokenizer; set them as they were (the run's config.yaml)"
            )
        self._halt()
        self._cursor = replace(cursor, digests={**cursor.digests, **self._digests})

    def set_weights(self, weights: Mapping[str, int]) -> None:
        """Begin a new phase with the next step: other weights, each source going on where it is."""
        window = self._packing.window if self._packing else 1
        following = self._cursor.next_phase(self._known(weights), window)
        self._halt()
        self._cursor = following

    def close(self) -> None:
        """Stop the thread and close the shards and the log. `next_step` opens them again."""
        self._halt()
        for reader in self._readers.values():
            reader.close()
        self._bad.close()

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

    def _flow(self) -> Flow:
        return Flow(
            self._cursor,
            self._share,
            self._collator,
            self._readers,
            self._window,
            self._packing,
            self._degradation,
        )

    def _packing_mark(self) -> str:
        """What must be the same for a window of packed rows to be made again as it was; "" without packing."""
        if self._packing is None:
            return ""
        return hashlib.sha256(f"{self._packing}/{self._collator.digest}".encode()).hexdigest()[:8]

    def _start(self) -> "Generator[Step, None, None] | Prefetcher[Step] | Workers[Step]":
        """Steps from the cursor on. They refer to the readers, not to the stream: see Prefetcher."""
        flow = self._flow()
        if self._workers:
            from data_pipeline.workers import Workers

            return Workers(flow.steps, self._workers, self._prefetch)
        return Prefetcher(flow.steps(), self._prefetch) if self._prefetch > 0 else flow.steps()

    def _halt(self) -> None:
        if self._steps is not None:
            self._steps.close()
        self._steps = None
