"""Who keeps a run waiting, from what ranks tell; and which variables NCCL's recorder takes. With real ranks: test_peers.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from train.launch.flight_recorder import settings
from train.launch.heartbeat import Beat, diagnosis

REDUCING = Beat(8, "step 17", "computing, in all_reduce, called by _totals (parallel/engine.py:201)", waits=True)
READING = Beat(8, "step 17", "waiting for its data, in __next__ (data_pipeline/prefetch.py:45)")
RECEIVING = Beat(8, "step 17", "computing, in recv, called by run (parallel/pipeline.py:90)", waits=True)
GAVE_UP = replace(REDUCING, left="PeerLost: waited for another process")
BROKE = Beat(8, "step 17", "computing, in forward (train/model/decoder.py:9)", left="ValueError: no such page")


@pytest.mark.parametrize(
    ("last", "moved", "text"),
    [
        (READING, True, "Rank 3 is in step 17, waiting for its data, in __next__ (data_pipeline/prefetch.py:45); 3 ranks wait in step 17, "
         "computing, in all_reduce, called by _totals (parallel/engine.py:201)."),
        (READING, False, "Rank 3 was stopped or is gone, last heard of in step 17, waiting for its data, in __next__"),
        (BROKE, False, "Rank 3 ended in step 17: ValueError: no such page; 3 ranks wait in step 17"),
        (replace(REDUCING, step="step 16"), True, "Rank 3 is in step 16, computing, in all_reduce"),
        (RECEIVING, True, "Rank 3 is in step 17, computing, in recv"),
        (None, False, "Rank 3 never came to its first step; 3 ranks wait"),
        (REDUCING, True, "Every rank waits in step 17, computing, in all_reduce"),
        (GAVE_UP, False, "Every rank waits in step 17, computing, in all_reduce"),
    ],
)  # fmt: skip
def test_the_one_that_is_missing_is_named(last: Beat | None, moved: bool, text: str) -> None:
    before = {0: REDUCING, 1: GAVE_UP, 2: REDUCING} | ({3: last} if last else {})
    after = {rank: beat if beat.left else replace(beat, count=12) for rank, beat in before.items()}
    if last and not moved:
        after[3] = last
    assert diagnosis(before, after, 4).startswith(text)


def test_behind_a_rank_that_reads_nobody_else_is_named() -> None:
    """In a pipeline ranks wait for each other at different places."""
    before = {0: RECEIVING, 1: REDUCING, 2: REDUCING, 3: READING}
    text = diagnosis(before, {rank: replace(beat, count=12) for rank, beat in before.items()}, 4)
    assert text.startswith("Rank 3 is in step 17, waiting for its data") and "rank 0" not in text


def test_of_many_ranks_a_few_are_named() -> None:
    before = dict.fromkeys(range(160), REDUCING)
    after = {rank: replace(beat, count=12) if rank < 8 else beat for rank, beat in before.items()}
    assert "148 more ranks likewise" in diagnosis(before, after, 160)


def test_the_recorders_variables_are_this_torchs(tmp_path: Path) -> None:
    assert settings(tmp_path, "2.13.0+cpu") == {
        "TORCH_FR_BUFFER_SIZE": "2000", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1", "TORCH_FR_DUMP_TEMP_FILE": f"{tmp_path}/nccl/rank_"
    }  # fmt: skip
    assert settings(tmp_path, "2.6.0")["TORCH_NCCL_TRACE_BUFFER_SIZE"] == "2000"
