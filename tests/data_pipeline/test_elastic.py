"""A run may change its data-parallel size as often as it likes: the global batches stay what they were, row by row."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest

from data_pipeline.batch import BatchSpec, Collator
from data_pipeline.identity import BATCH_HASHES, batch_hash
from data_pipeline.index import ShardIndex
from data_pipeline.stream import Cursor, Stream
from data_pipeline.tokenizer import byte_tokenizer
from tests.data_pipeline.shard_sets import flip, views_of, write_set

COUNTS = {"prose": [7, 5, 9, 4], "tables": [6, 6], "charts": [3]}  # 25, 12 and 3 samples
PHASES = {
    0: {"prose": 1},
    4: {"prose": 2, "tables": 1},
    9: {"prose": 5, "tables": 2, "charts": 1},
}  # from step
STEPS, GLOBAL_BATCH = 15, 12
COLLATOR = Collator(byte_tokenizer(), BatchSpec(("32",), patch=4, max_length=256))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Shard sets, one sample of prose and one of tables damaged."""
    root = tmp_path_factory.mktemp("sets")
    for source, counts in COUNTS.items():
        write_set(root / source, counts, source)
    for path in (root / "prose" / "shard-00002.tar", root / "tables" / "shard-00000.tar"):
        offset, size = ShardIndex.load(path).samples[4].parts["png"]
        flip(path, offset + size // 2)
    return {source: root / source for source in COUNTS}


class World:
    """The streams of all data-parallel ranks of one size, from a cursor's JSON on."""

    def __init__(self, sources: dict[str, Path], size: int, saved: str | None, micro_batch: int) -> None:
        self.ranks = [
            Stream(sources, PHASES[0], COLLATOR, global_batch=GLOBAL_BATCH, micro_batch=micro_batch, rank=rank,
                   world=size, seed=5, window=2, max_bad_fraction=0.5)
            for rank in range(size)
        ]  # fmt: skip
        for stream in self.ranks if saved else ():
            stream.seek(Cursor.from_json(json.loads(saved)))

    def step(self, number: int) -> tuple[str, int, list[str]]:
        """(hash of all the model is given, the number that is logged, keys) of one global batch."""
        content, logged, keys = hashlib.sha256(), 0, []
        for stream in self.ranks:
            if number in PHASES and number > 0:
                stream.set_weights(PHASES[number])
            batches = stream.next_step()
            logged += stream.batch_hash(batches)
            for batch in batches:
                for row, key in enumerate(batch.keys):
                    kept = ~batch.padding[row]
                    shown = views_of(batch, row)
                    for part in (batch.tokens[row][kept], batch.labels[row][kept], *shown):
                        content.update(part.numpy().tobytes())
                    keys.append(f"{batch.sources[row]}/{key}")
        return content.hexdigest(), logged % BATCH_HASHES, keys

    def close(self) -> str:
        """The cursor that a checkpoint would keep: rank 0's."""
        saved = json.dumps(self.ranks[0].cursor.to_json())
        for stream in self.ranks:
            stream.close()
        return saved


def run(sources, sizes: dict[int, int], micro_batch: int = 1) -> list[tuple[str, int, list[str]]]:
    """All steps of a run whose data-parallel size is `sizes[step]` from that step on."""
    found, saved = [], None
    for first, last in pairwise([*sizes, STEPS]):
        world = World(sources, sizes[first], saved, micro_batch)
        found += [world.step(number) for number in range(first, last)]
        saved = world.close()
    return found


@pytest.fixture(scope="module")
def whole(sources):
    """The run that is never interrupted, on one rank."""
    return run(sources, {0: 1})


@pytest.mark.fault(
    "resume at another world size",
    injected="up to four changes of the number of ranks in the middle of an epoch, with damaged shards, packing and a "
    "curriculum",
    handled="the place in the data is of the global order, not of ranks: every global batch is the same",
    lost="nothing",
)
@pytest.mark.parametrize(
    ("sizes", "micro_batch"),
    [({0: 1, 3: 4, 6: 2, 11: 3}, 1), ({0: 3, 4: 1, 9: 4, 10: 12, 13: 2}, 1), ({0: 2, 1: 3, 8: 6, 9: 1}, 2)],
)
def test_however_often_the_size_changes_every_global_batch_is_the_same(sources, whole, sizes, micro_batch):
    assert run(sources, sizes, micro_batch) == whole


def test_the_run_that_is_compared_has_all_phases_and_met_the_damage(sources, whole):
    drawn = [{key.partition("/")[0] for key in keys} for _, _, keys in whole]
    assert drawn[3] == {"prose"} and drawn[4] == {"prose", "tables"} and drawn[9] == set(COUNTS)
    world = World(sources, 1, None, 1)
    for number in range(STEPS):
        world.step(number)
    assert json.loads(world.close())["bad"].keys() == {"prose: checksum", "tables: checksum"}


def test_the_logged_number_tells_batches_apart_by_samples_sources_and_order(whole):
    assert len({logged for _, logged, _ in whole}) == STEPS
    keys = ["prose/a", "prose/b", "tables/a"]
    others = (keys[::-1], ["prose/a", "prose/b", "prose/a"], keys[:2], ["prose/b", "prose/a", "tables/a"])
    assert batch_hash(keys) not in {batch_hash(other) for other in others}


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6])
def test_the_numbers_of_ranks_add_up_to_that_of_the_global_batch(ranks):
    keys, size = [f"key-{number}" for number in range(12)], 12 // ranks
    parts = [batch_hash(keys[rank * size : (rank + 1) * size], rank * size) for rank in range(ranks)]
    assert sum(parts) % BATCH_HASHES == batch_hash(keys)
    assert float(sum(map(float, parts))) % BATCH_HASHES == batch_hash(keys)
