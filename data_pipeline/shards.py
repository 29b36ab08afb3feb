"""Write shards: each a pure function of (corpus, set, seed, shard number), so any process may write any of them.

A shard appears under its name only when it is whole and on disk (see `atomic`); beside it `shard-00000.done.json`
says what it holds and for which build. After a kill the same command finds these, checks the shards against their
checksums, and writes only what is missing.
"""

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_pipeline.atomic import atomic_write
from data_pipeline.config import CorpusConfig
from data_pipeline.errors import DataError
from data_pipeline.kinds.kind import Refused
from data_pipeline.manifest import ShardEntry, describe_shard, file_digest
from data_pipeline.plan import ShardSet
from data_pipeline.record import encode
from data_pipeline.samples import SampleMaker, content_of
from data_pipeline.workers import settle
from data_pipeline.workshop import open_workshop

_NAMED = 100  # refused items of a shard whose names are kept


@dataclass(frozen=True)
class ShardJob:
    """One shard to write. `build` identifies the build: the digest of all that decides the shard's bytes."""

    folder: Path
    shard: int
    numbers: range
    corpus: CorpusConfig
    shard_set: ShardSet
    seed: int
    build: str

    @property
    def path(self) -> Path:
        """The shard's file."""
        return self.folder / f"shard-{self.shard:05d}.tar"

    @property
    def note(self) -> Path:
        """Where the finished shard's `ShardDone` is kept."""
        return self.folder / f"shard-{self.shard:05d}.done.json"


@dataclass(frozen=True)
class ShardDone:
    """What a finished shard holds. refused: draws, or items of a list, by reason."""

    entry: ShardEntry
    build: str
    text_bytes: int
    refused: dict[str, int] = field(default_factory=dict)
    named: list[tuple[str, str]] = field(
        default_factory=list
    )  # (item, reason) of what has a name, some of it
    contents: str = ""  # 16 hex digits a sample: samples.content_of

    @staticmethod
    def find(job: ShardJob) -> "ShardDone | None":
        """The note of a shard that is finished, of this build, and intact on disk; else None."""
        try:
            content = json.loads(job.note.read_bytes())
            named = [(item, reason) for item, reason in content.pop("named")]
            done = ShardDone(ShardEntry(**content.pop("entry")), named=named, **content)
            intact = done.build == job.build and file_digest(job.path) == done.entry.sha256
            return done if intact and job.path.with_suffix(".index.json").is_file() else None
        except (OSError, ValueError, TypeError, KeyError):
            return None


def write_shards(
    jobs: Sequence[ShardJob], workers: int, progress: Callable[[ShardDone], object]
) -> dict[Path, ShardDone]:
    """Write every shard of `jobs` with `workers` processes; shard path → what it holds.

    progress: called in this process for each finished shard; what it raises stops the build. Raises DataError for
    what a worker reports, and when a worker was killed. Finished shards stay.
    """
    alone = workers == 1 or len(jobs) <= 1
    results = {}
    with closing(
        _write_here(jobs) if alone else _write_in_processes(jobs, min(workers, len(jobs)))
    ) as finished:
        for job, done in finished:
            results[job.path] = done
            progress(done)
    return results


def write_shard(job: ShardJob) -> ShardDone:
    """Write one shard, its index and its note. The same job gives the same bytes, whoever runs it."""
    from webdataset import TarWriter

    maker = SampleMaker(open_workshop(job.corpus), job.shard_set, job.seed)
    refused: list[Refused] = []
    contents: dict[bytes, None] = {}  # in order
    text_bytes = 0
    job.folder.mkdir(parents=True, exist_ok=True)
    for left in job.folder.glob(f"{job.path.name}.*.part"):  # by a process that was killed
        left.unlink(missing_ok=True)
    with atomic_write(job.path) as file:
        writer = TarWriter(file, mtime=0.0)
        for number in job.numbers:
            record, reasons = maker.make(number, contents)
            refused += reasons
            if record is not None:
                writer.write(encode(record))
                contents[content_of(record)] = None
                text_bytes += len(record.target.encode())
        writer.tarstream.close()
    done = ShardDone(
        describe_shard(job.path),
        job.build,
        text_bytes,
        dict(Counter(error.reason for error in refused)),
        [(error.item, error.reason) for error in refused if error.item][:_NAMED],
        b"".join(contents).hex(),
    )
    with atomic_write(job.note) as file:
        file.write(json.dumps(asdict(done)).encode())
    return done


def _write_here(jobs: Sequence[ShardJob]) -> Generator[tuple[ShardJob, ShardDone], None, None]:
    for job in jobs:
        yield job, write_shard(job)


def _write_in_processes(
    jobs: Sequence[ShardJob], workers: int
) -> Generator[tuple[ShardJob, ShardDone], None, None]:
    """Spawned processes: forked ones would inherit the threads and locks of whatever library is loaded here."""
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=settle
    )
    try:
        futures = {pool.submit(write_shard, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise DataError(
            "a process that wrote shards was killed (out of memory?). Finished shards are kept: run the same command again, "
            "with fewer processes if need be: workers=1"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
