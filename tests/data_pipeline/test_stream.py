import gc
import hashlib
import json
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset

from data_pipeline.batch import BatchSpec, Collator
from data_pipeline.cursor import Cursor
from data_pipeline.errors import DataError
from data_pipeline.index import ShardIndex
from data_pipeline.manifest import MANIFEST_NAME, Manifest, describe_shard
from data_pipeline.prefetch import Prefetcher
from data_pipeline.reader import records
from data_pipeline.record import decode, encode
from data_pipeline.stream import Stream
from data_pipeline.tokenizer import byte_tokenizer
from tests.data_pipeline.shard_sets import a_record, flip, views_of, write_set, write_shard

COUNTS = {"prose": [7, 5, 9, 4], "tables": [6, 6], "charts": [3]}  # 25, 12 and 3 samples
WEIGHTS = {"prose": 5, "tables": 2, "charts": 1}
COLLATOR = Collator(byte_tokenizer(), BatchSpec(("32",), patch=4, max_length=256, glyphs=True))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Shard sets that no test changes: folder by source."""
    root = tmp_path_factory.mktemp("sets")
    for source, counts in COUNTS.items():
        write_set(root / source, counts, source)
    return {source: root / source for source in COUNTS}


@pytest.fixture
def prose(tmp_path):
    """A set of its own to damage: 4 shards, 25 samples."""
    write_set(tmp_path / "prose", COUNTS["prose"])
    return tmp_path / "prose"


def stream(sources, weights=None, rank=0, world=1, **options) -> Stream:
    defaults = {"global_batch": 8, "micro_batch": 2, "seed": 5, "window": 2}
    weights = weights or {name: WEIGHTS[name] for name in sources}
    return Stream(sources, weights, COLLATOR, rank=rank, world=world, **{**defaults, **options})


def one(folder, **options) -> Stream:
    return stream({"prose": folder}, **options)


def fingerprint(batches) -> list[tuple[str, str]]:
    """(key, hash of the row) of every row."""
    rows = []
    for batch in batches:
        for row, key in enumerate(batch.keys):
            shown = views_of(batch, row)
            kept = ~batch.padding[row]
            content = (batch.tokens[row][kept], batch.labels[row][kept], *shown)
            digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in content)).hexdigest()
            rows.append((key, digest))
    return rows


def global_steps(sources, world: int, steps: int, cursor: Cursor | None = None, **options) -> list[list]:
    """Each step's rows in rank order: what all ranks together train on."""
    ranks = [stream(sources, rank=rank, world=world, **options) for rank in range(world)]
    for each in ranks:
        if cursor:
            each.seek(cursor)
    found = [[row for each in ranks for row in fingerprint(each.next_step())] for _ in range(steps)]
    for each in ranks:
        each.close()
    return found


@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_together_read_the_same_global_batches_at_any_world_size(shared, world):
    assert global_steps(shared, world, 12) == global_steps(shared, 1, 12)


@pytest.mark.parametrize("micro_batch", [1, 4, 8])
def test_micro_batches_cut_the_same_order(shared, micro_batch):
    assert global_steps(shared, 1, 5, micro_batch=micro_batch) == global_steps(shared, 1, 5)


@pytest.mark.parametrize("at", [0, 1, 4, 7])
@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 2), (2, 1)])
def test_a_cursor_gives_exactly_the_remaining_samples_at_another_world_size(shared, at, before, after):
    whole = global_steps(shared, 1, 9)
    first = stream(shared, rank=before - 1, world=before)
    for _ in range(at):
        first.next_step()
    saved = json.loads(json.dumps(first.cursor.to_json()))
    first.close()
    assert global_steps(shared, after, 9 - at, Cursor.from_json(saved)) == whole[at:]


def test_a_cursor_does_not_depend_on_rank_or_world_or_prefetching(shared):
    cursors = set()
    for world, prefetch in ((1, 0), (1, 5), (4, 2)):
        with stream(shared, rank=world - 1, world=world, prefetch=prefetch) as each:
            each.next_step()
            each.next_step()
            cursors.add(json.dumps(each.cursor.to_json(), sort_keys=True))
    assert len(cursors) == 1
    assert json.loads(cursors.pop())["index"] == 16


def test_the_mixture_is_exact_in_every_step_of_a_cycle(shared):
    with stream(shared) as each:
        for _ in range(10):
            drawn = [source for batch in each.next_step() for source in batch.sources]
            assert {source: drawn.count(source) for source in WEIGHTS} == WEIGHTS


def test_each_epoch_reads_every_sample_once_in_another_order(shared):
    with one(shared["prose"], global_batch=25, micro_batch=5) as each:
        epochs = [[key for batch in each.next_step() for key in batch.keys] for _ in range(3)]
    assert all(sorted(epoch) == [f"prose-{number:05d}" for number in range(25)] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_rows_are_the_records_that_were_written(shared):
    with stream({"tables": shared["tables"]}) as each:
        batches = each.next_step()
    originals = [a_record(int(key.partition("-")[2]), "tables") for batch in batches for key in batch.keys]
    expected = [COLLATOR(originals[start : start + 2], ["tables"] * 2) for start in range(0, 8, 2)]
    assert fingerprint(batches) == fingerprint(expected)


def curriculum(sources, world: int) -> list[list]:
    """Two steps of the easiest source, three with a second one, two with all."""
    ranks = [stream(sources, {"prose": 1}, rank=rank, world=world) for rank in range(world)]
    found = []
    for weights, steps in (({"prose": 1}, 2), ({"prose": 1, "tables": 1}, 3), (WEIGHTS, 2)):
        for each in ranks:
            if weights != {"prose": 1}:
                each.set_weights(weights)
        found += [[row for each in ranks for row in fingerprint(each.next_step())] for _ in range(steps)]
    for each in ranks:
        each.close()
    return found


def test_changing_weights_is_deterministic_and_neither_repeats_nor_loses_a_sample(shared):
    found = curriculum(shared, 1)
    assert found == curriculum(shared, 2)
    keys = [key for step in found for key, _ in step if key.startswith("prose")]
    assert len(keys) == 16 + 12 + 10
    assert sorted(keys[:25]) == [f"prose-{number:05d}" for number in range(25)]
    assert len(set(keys[25:])) == len(keys[25:])


def test_a_cursor_from_a_later_phase_restores_weights_and_positions(shared):
    first = stream(shared, {"prose": 1})
    first.next_step()
    first.set_weights({"tables": 1, "prose": 3})
    first.next_step()
    saved = first.cursor
    rest = [fingerprint(first.next_step()) for _ in range(4)]
    first.close()
    assert (saved.phase, saved.index, saved.base) == (1, 8, {"prose": 8})
    assert global_steps(shared, 4, 4, saved) == rest


def test_the_seed_of_the_cursor_decides_so_a_resumed_run_keeps_its_order(shared):
    with stream(shared) as first:
        first.next_step()
        saved, following = first.cursor, fingerprint(first.next_step())
    with stream(shared, seed=99) as second:
        assert fingerprint(second.next_step()) != following
        second.seek(saved)
        assert fingerprint(second.next_step()) == following


def test_a_cursor_of_other_shards_is_refused_by_name(shared, prose):
    with one(prose) as first:
        saved = first.cursor
    path = prose / "shard-00003.tar"
    write_shard(path, [a_record(100 + number) for number in range(4)])
    manifest = Manifest.load(prose)
    manifest.shards[3] = describe_shard(path)
    manifest.save(prose)
    with one(prose) as second, pytest.raises(DataError, match=r"source prose .* is not the shard set"):
        second.seek(saved)
    with stream({"tables": shared["tables"]}) as third, pytest.raises(DataError, match="source prose"):
        third.seek(saved)


def test_plain_webdataset_reads_our_shards_unchanged(shared):
    shards = [str(path) for path in sorted(shared["prose"].glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"prose-{number:05d}" for number in range(25)]
    assert [decode(sample).target for sample in samples] == [a_record(number).target for number in range(25)]
    decoded = next(iter(webdataset.WebDataset(shards, shardshuffle=False).decode("l8")))
    assert (decoded["png"] == a_record(0).pages[0]).all()
    assert decoded["json"]["target"] == a_record(0).target


def test_no_shell_command_and_no_pickle_in_a_shard_set_is_ever_run(prose, tmp_path, monkeypatch):
    class Touch:
        def __reduce__(self):
            return (open, (str(tmp_path / "pickled"), "w"))

    with open(prose / "shard-00003.tar", "wb") as file, webdataset.TarWriter(file, mtime=0) as writer:
        writer.write({**encode(a_record(24)), "pyd": pickle.dumps(Touch())})
    (prose / "shard-00002.tar").rename(prose / "pipe:touch called")
    manifest = Manifest.load(prose)
    manifest.shards[3] = describe_shard(prose / "shard-00003.tar")
    manifest.shards[2] = replace(manifest.shards[2], name="pipe:touch called")
    manifest.save(prose)
    monkeypatch.chdir(tmp_path)
    with one(prose, global_batch=22, micro_batch=11, max_bad_fraction=1.0) as each:
        batches = each.next_step()
    assert (
        sum(int((batch.labels != -100).any(1).sum()) for batch in batches) == 22
    )  # it is a file like others
    assert not (tmp_path / "pickled").exists()
    assert not (tmp_path / "called").exists()


def test_reading_works_with_webdataset_s_security_switched_on(shared, monkeypatch):
    monkeypatch.setattr(webdataset.utils, "enforce_security", True)  # as WDS_SECURE=1 does
    with one(shared["prose"]) as each:
        assert sum(len(batch.keys) for batch in each.next_step()) == 8


# What bad input gets


def read_all(each: Stream, steps: int) -> list:
    return [batch for _ in range(steps) for batch in each.next_step()]


def damage(folder, shard: int, sample: int, part: str, data: bytes | None = None) -> str:
    """Flip a byte in the middle of one part of a sample, or overwrite its start; returns the key."""
    path = folder / f"shard-{shard:05d}.tar"
    entry = ShardIndex.load(path).samples[sample]
    offset, size = entry.parts[part]
    if data is None:
        flip(path, offset + size // 2)
    else:
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)
    return entry.key


def reindexed(folder) -> None:
    """As if the shards had been written like this: index and manifest agree with what is there."""
    manifest = Manifest.load(folder)
    manifest.shards = [describe_shard(folder / shard.name) for shard in manifest.shards]
    manifest.save(folder)


def expect_hole(folder, tmp_path, key: str, reason: str, shard: str, **options) -> None:
    """An epoch with one hole at `key`: no loss there, all else as ever, counted and named."""
    log = tmp_path / "logs" / "bad_samples.jsonl"
    with one(folder, global_batch=25, micro_batch=5, max_bad_fraction=0.2, bad_log=log, **options) as each:
        batches = each.next_step()
        assert each.cursor.bad == {f"prose: {reason}": 1}
    rows = [(name, batch, row) for batch in batches for row, name in enumerate(batch.keys)]
    assert sorted(name for name, _, _ in rows) == [f"prose-{number:05d}" for number in range(25)]
    for name, batch, row in rows:
        assert (batch.labels[row] == -100).all() == (name == key)
        assert bool(views_of(batch, row)) == (name != key)
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (line["source"], line["shard"], line["key"], line["reason"]) == ("prose", shard, key, reason)


@pytest.mark.fault(
    "truncated or missing shard",
    injected="a flipped byte in a shard",
    handled="the sample's checksum differs: a row without loss; counted and named",
    lost="that sample",
)
def test_a_flipped_byte_is_a_hole(prose, tmp_path):
    key = damage(prose, 2, 4, "png")
    expect_hole(prose, tmp_path, key, "checksum", "shard-00002.tar")


@pytest.mark.fault(
    "bad image",
    injected="bytes of a GIF in the place of a PNG",
    handled="a row without loss; counted, and named in bad_samples.jsonl",
    lost="that sample",
)
def test_a_bad_image_is_a_hole(prose, tmp_path):
    key = damage(prose, 1, 0, "png", b"GIF89a")
    reindexed(prose)
    expect_hole(prose, tmp_path, key, "bad image", "shard-00001.tar")


@pytest.mark.fault(
    "bad image",
    injected="a sample's JSON cut short",
    handled="a row without loss; counted and named",
    lost="that sample",
)
def test_invalid_json_is_a_hole(prose, tmp_path):
    key = damage(prose, 0, 6, "json", b"[[[")
    reindexed(prose)
    expect_hole(prose, tmp_path, key, "invalid json", "shard-00000.tar")


def test_a_damaged_tar_header_loses_nothing(prose):
    path = prose / "shard-00000.tar"
    flip(path, min(offset for offset, _ in ShardIndex.load(path).samples[3].parts.values()) - 512 + 150)
    with one(prose, global_batch=25, micro_batch=5, max_bad_fraction=0.0) as each:
        assert all((batch.labels != -100).any(1).all() for batch in each.next_step())


@pytest.mark.fault(
    "bad image",
    injected="4 of 25 samples are damaged, data.max_bad_fraction=0.01",
    handled="the run ends with shards, reasons and the setting",
    lost="the steps since the last checkpoint, done again",
)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_too_many_bad_samples_stop_with_shards_reasons_and_the_setting(prose, tmp_path, prefetch):
    for sample in range(4):
        damage(prose, 3, sample, "png")
    log = tmp_path / "bad.jsonl"
    with one(prose, max_bad_fraction=0.01, bad_log=log, prefetch=prefetch) as each:
        with pytest.raises(DataError) as stopped:
            read_all(each, 1000)
        assert each.cursor.index < 1000
    message = str(stopped.value)
    assert "prose/shard-00003.tar" in message
    assert "x checksum" in message
    assert "data.max_bad_fraction=0.01" in message
    assert str(log) in message
    assert log.read_text().count("shard-00003.tar") > 4


def test_below_the_ceiling_a_run_goes_on_and_holes_do_not_move_the_other_samples(prose, shared):
    whole = global_steps({"prose": shared["prose"]}, 1, 60)
    key = damage(prose, 2, 4, "png")
    found = global_steps({"prose": prose}, 2, 60, max_bad_fraction=0.05)
    pairs = [
        pair for mine, theirs in zip(found, whole, strict=True) for pair in zip(mine, theirs, strict=True)
    ]
    different = {theirs[0] for mine, theirs in pairs if mine != theirs}
    assert different == {key}


def test_one_early_bad_sample_does_not_stop_a_run_that_tolerates_few(prose):
    damage(prose, 2, 4, "png")
    with one(prose, global_batch=200, micro_batch=50, max_bad_fraction=0.03, prefetch=0) as each:
        read_all(each, 3)
        assert each.cursor.bad == {"prose: checksum": 24}


def test_no_tolerance_means_none(prose):
    damage(prose, 2, 4, "png")
    with one(prose, max_bad_fraction=0.0) as each, pytest.raises(DataError, match="1 of"):
        read_all(each, 4)


@pytest.mark.fault(
    "truncated or missing shard",
    injected="a shard is deleted, or cut, before the start",
    handled="refused at the start with the shard's name; below data.max_bad_fraction its samples are rows without loss",
    lost="those samples",
)
@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_a_lost_shard_stops_the_run_at_its_start_unless_it_is_a_small_part(prose, tmp_path, kind):
    path = prose / "shard-00003.tar"
    path.unlink() if kind == "missing" else path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(
        DataError, match=rf"4 of 25 samples are lost: shard-00003\.tar is {kind}.*max_bad_fraction=0.16"
    ):
        one(prose)
    log = tmp_path / "bad.jsonl"
    with one(prose, global_batch=25, micro_batch=5, max_bad_fraction=0.16, bad_log=log) as each:
        batches = each.next_step()
        assert each.cursor.bad == {f"prose: {kind} shard": 4}
    assert sum(int((batch.labels != -100).any(1).sum()) for batch in batches) == 21
    assert log.read_text().count(f"{kind} shard") == 4


@pytest.mark.fault(
    "truncated or missing shard",
    injected="a shard is deleted while the run reads it",
    handled="its samples are rows without loss; counted and named",
    lost="those samples",
)
def test_a_shard_that_vanishes_during_the_run_becomes_holes(prose):
    with one(prose, global_batch=25, micro_batch=5, max_bad_fraction=0.5, prefetch=0) as each:
        (prose / "shard-00003.tar").unlink()
        each.next_step()
        assert each.cursor.bad == {"prose: unreadable shard": 4}


@pytest.mark.parametrize("content", [None, b"{", b'{"format": 1, "shard": "shard-00001.tar", "samples": []}'])
def test_a_lost_or_stale_index_is_made_again(prose, shared, content):
    path = ShardIndex.path_for(prose / "shard-00001.tar")
    path.unlink() if content is None else path.write_bytes(content)
    assert global_steps({"prose": prose}, 1, 4) == global_steps({"prose": shared["prose"]}, 1, 4)


def test_without_an_index_a_changed_shard_is_not_trusted(prose, tmp_path):
    path = prose / "shard-00003.tar"
    damage(prose, 3, 1, "json")
    ShardIndex.path_for(path).unlink()
    with one(prose, global_batch=25, micro_batch=5, max_bad_fraction=0.5) as each:
        each.next_step()
        assert each.cursor.bad == {"prose: damaged shard": 4}


def test_an_empty_shard_set_is_refused(tmp_path):
    write_set(tmp_path / "none", [])
    write_set(tmp_path / "hollow", [0])
    for name in ("none", "hollow"):
        with pytest.raises(DataError, match=f"{name}.*holds no samples"):
            one(tmp_path / name)


def test_a_folder_that_is_no_shard_set_and_a_damaged_manifest_are_refused(tmp_path, prose):
    with pytest.raises(DataError, match=r"python -m data_pipeline\.build"):
        one(tmp_path / "nowhere")
    (prose / MANIFEST_NAME).write_text("{")
    with pytest.raises(DataError, match="invalid JSON"):
        one(prose)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"global_batch": 6, "micro_batch": 4}, "data.global_batch=8"),
        ({"global_batch": 0}, "data.global_batch=2"),
        ({"micro_batch": 0}, "data.micro_batch=0"),
        ({"world": 3}, "data.global_batch=6"),
        ({"weights": {"proze": 1}}, "proze"),
        ({"weights": {"prose": 0}}, "weight above 0"),
        ({"max_bad_fraction": 1.5}, "data.max_bad_fraction=1.5"),
        ({"window": 0}, "data.shuffle_window=0"),
    ],
)
def test_impossible_settings_are_refused_at_the_start(shared, options, complaint):
    with pytest.raises(DataError, match=complaint):
        one(shared["prose"], **options)


# The thread that reads ahead


def test_prefetching_changes_nothing(shared):
    assert global_steps(shared, 1, 8, prefetch=0) == global_steps(shared, 1, 8, prefetch=4)


def test_an_error_in_the_thread_reaches_next_step_and_comes_again(prose, monkeypatch):
    def fail(*_):
        raise DataError("not this one")

    with one(prose) as each:
        monkeypatch.setattr(each._collator, "rows", fail, raising=True)
        for _ in range(2):
            with pytest.raises(DataError, match="not this one"):
                each.next_step()


def test_pages_that_are_too_long_are_counted_up_to_the_ceiling_which_names_the_option(prose, tmp_path):
    short = Collator(byte_tokenizer(), BatchSpec(("32",), patch=4, max_length=40))
    with Stream(
        {"prose": prose}, {"prose": 1}, short, global_batch=2, micro_batch=2, rank=0, world=1, seed=1,
        bad_log=tmp_path / "bad.jsonl",
    ) as each:  # fmt: skip
        batch = each.next_step()[0]
        assert batch.weights()["tokens"] == 0 and each.cursor.bad == {"prose: too long": 2}
        with pytest.raises(DataError, match=r"too long.*; set data\.max_length=\d+"):
            for _ in range(20):
                each.next_step()


def prefetch_threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def wait_until_none() -> None:
    deadline = time.monotonic() + 10
    while prefetch_threads() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_the_thread_ends_with_the_stream_closed_or_forgotten(shared):
    gc.collect()
    wait_until_none()
    each = stream(shared)
    each.next_step()
    assert prefetch_threads() == 1
    each.close()
    assert prefetch_threads() == 0
    each.next_step()
    assert prefetch_threads() == 1
    del each
    gc.collect()
    wait_until_none()
    assert prefetch_threads() == 0


def test_an_unclosed_stream_does_not_keep_the_interpreter_alive(shared):
    code = (
        "import sys; from pathlib import Path; from data_pipeline.stream import Stream\n"
        "from data_pipeline.batch import BatchSpec, Collator; from data_pipeline.tokenizer import byte_tokenizer\n"
        "collator = Collator(byte_tokenizer(), BatchSpec(('32',), patch=4, max_length=256))\n"
        "s = Stream({'prose': Path(sys.argv[1])}, {'prose': 1}, collator,\n"
        "           global_batch=2, micro_batch=2, rank=0, world=1, seed=1)\n"
        "print(s.next_step()[0].keys)"
    )
    command = [sys.executable, "-c", code, shared["prose"]]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "prose-" in ran.stdout


def test_a_prefetcher_keeps_order_and_stays_at_most_its_depth_ahead():
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    ahead = Prefetcher(items(), 3)
    assert next(ahead) == 0
    time.sleep(0.2)
    assert len(made) <= 6  # one taken, three waiting, one in hand, one begun
    assert list(ahead) == list(range(1, 20))


# Reading a set in the order it was written


def test_records_come_in_written_order_up_to_a_limit(shared):
    assert [record.key for record in records(shared["tables"], 7)] == [f"tables-{n:05d}" for n in range(7)]
    assert len(list(records(shared["tables"]))) == 12
    assert list(records(shared["tables"], 0)) == []


def test_records_stop_at_a_bad_sample(prose):
    damage(prose, 0, 1, "png")
    with pytest.raises(DataError, match="checksum"):
        list(records(prose))
