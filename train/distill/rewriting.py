"""Shard sets made from others by a model: which shards are missing, and each group of processes with its share of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from data_pipeline.derived import DerivedSet
from data_pipeline.errors import SampleError
from data_pipeline.manifest import Manifest
from data_pipeline.record import Record
from train.generate.many import bar_of, say
from train.generate.team import Team

Task = tuple[int, int]  # number of the set, number of the shard


class Worker(Protocol):
    """A model that makes samples of records."""

    def samples(self, records: Iterator[Record], refused: Counter[str]) -> Iterator[dict[str, Any]]:
        """webdataset samples, in order; those that it cannot make are counted in `refused`, by reason. All ranks that share the
        model call it together."""


def rewrite(sets: Sequence[DerivedSet], team: Team, worker: Worker, overwrite: bool) -> list[Manifest]:
    """Writes what is missing of the sets, with a progress bar in samples; their manifests on the first process, else none. All
    processes call it. Raises DataError, on all of them, for a folder that holds something else.
    """

    def look() -> list[Task]:
        for one in sets:
            one.claim(overwrite)
        return [(number, shard) for number, one in enumerate(sets) for shard in one.missing()]

    tasks = team.share(team.from_first(look))
    total = sum(sets[number].reader.manifest.shards[shard].samples for number, shard in tasks)
    with bar_of(total, hidden=not team.first) as bar:
        for number, shard in tasks:
            one, refused = sets[number], Counter[str]()
            made = _counted(worker.samples(one.records(shard, _into(refused)), refused), bar)
            if team.leads:
                one.write(shard, made, refused)
            else:
                for _ in made:
                    pass
    team.gather(None)  # nobody leaves before all shards are there
    if not team.first:
        return []
    manifests = [one.finish() for one in sets]
    for one, manifest in zip(sets, manifests):
        reasons = ", ".join(f"{count} refused ({reason})" for reason, count in manifest.refused.items())
        say(f"{one.folder}: {manifest.samples} samples{', ' * bool(reasons)}{reasons}")
    return manifests


def _into(refused: Counter[str]) -> Any:
    def count(error: SampleError) -> None:
        refused[error.reason] += 1

    return count


def _counted(samples: Iterator[dict[str, Any]], bar: Any) -> Iterator[dict[str, Any]]:
    for sample in samples:
        bar.update(1)
        yield sample
