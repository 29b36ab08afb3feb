"""Processes that make items ahead: in order, without copies, and gone when they should be."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.errors import DataError
from data_pipeline.tokenizer import byte_tokenizer
from data_pipeline.workers import Workers
from tests.data_pipeline.shard_sets import a_record
from tests.data_pipeline.worker_items import arrays, faulty, marked, numbers, process_ids, stubborn

ROOT = Path(__file__).parents[2]


def batches(worker: int, workers: int) -> Iterator[MicroBatch]:
    collator = Collator(byte_tokenizer(), BatchSpec(("32",), patch=4, max_length=256, glyphs=True))
    for number in range(worker, 6, workers):
        yield collator([a_record(number), a_record(number + 50)], ["prose", "prose"])


def tensors(worker: int, workers: int) -> Iterator[dict[str, Any]]:
    whole = torch.arange(1 << 20, dtype=torch.int32)
    yield {
        "grey": torch.arange(1 << 16, dtype=torch.uint8).view(1, 1, 256, 256).expand(2, 3, 256, 256),
        "part": whole[1000 : 1000 + (1 << 14)],
        "turned": torch.arange(1 << 16, dtype=torch.float64).view(256, 256).T,
        "half": torch.ones(1 << 14, dtype=torch.bfloat16),
        "small": torch.tensor([True, False]),
        "empty": torch.empty((0, 3), dtype=torch.int64),
        "number": torch.tensor(5),
        "array": np.arange(1 << 16).reshape(256, 256),
        "text": "page " * 20_000,
        "threads": (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]),
    }


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(processes: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_alive, processes))


@pytest.mark.parametrize(("workers", "last"), [(1, 3), (2, 7), (3, 2)])
def test_items_come_in_order_whatever_the_number_of_processes(workers: int, last: int) -> None:
    each = Workers(partial(numbers, last), workers, 2)
    assert list(each) == list(range(last))
    assert list(each) == []


def test_micro_batches_come_as_they_were_made() -> None:
    for found, expected in zip(Workers(batches, 1, 2), batches(0, 1), strict=True):
        for name, value in vars(expected).items():
            other = getattr(found, name)
            if name in ("views", "glyphs"):
                assert all(torch.equal(a, b) for a, b in zip(value, other, strict=True))
                assert [stack.stride() for stack in value] == [stack.stride() for stack in other]
            else:
                assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value


def test_tensors_keep_type_shape_strides_and_can_be_written() -> None:
    (found,) = list(Workers(tensors, 1, 1))
    gc.collect()
    assert found.pop("threads") == (1, "1")
    for name, expected in next(tensors(0, 1)).items():
        if name == "threads":
            continue
        if isinstance(expected, torch.Tensor):
            assert torch.equal(found[name], expected) and found[name].dtype == expected.dtype
            assert found[name].stride() == expected.stride() or not expected.numel()
        else:
            assert np.array_equal(found[name], expected)
    assert found["grey"].untyped_storage().nbytes() == 1 << 16  # one channel has travelled
    assert found["part"].untyped_storage().nbytes() == 1 << 16  # not all that it is a part of
    found["turned"][0, 0] = 5.0
    found["array"][0, 0] = 5


def test_no_process_is_more_than_depth_ahead(tmp_path: Path) -> None:
    each = Workers(partial(marked, tmp_path), 2, 3)
    assert next(each) == 0
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) == 7  # 4 of the first, one of which was taken, and 3 of the second
    each.close()


@pytest.mark.fault(
    "data worker killed",
    injected="SIGKILL, exit or an error in a process that makes batches",
    handled="the run ends with which worker, which signal and the setting; nothing hangs",
    lost="the steps since the last checkpoint, done again",
)
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("plain", ZeroDivisionError, "no page"),
        ("sample", DataError, "^a.tar: page 4: checksum differs$"),
        ("kill", DataError, r"data worker 0 was killed by SIGKILL \(out of memory\?\).*data\.workers="),
        ("exit", DataError, "exit code 7"),
        ("unpicklable", RuntimeError, "Local: odd"),
        ("bad item", Exception, "lambda"),
    ],
)
def test_what_goes_wrong_is_raised_in_its_place(kind: str, error: type[Exception], message: str) -> None:
    each, found = Workers(partial(faulty, kind), 2, 2), []
    with pytest.raises(error, match=message) as raised:
        for item in each:
            found.append(item)
    assert found == [0, 1, 2, 3]
    notes = "".join(getattr(raised.value, "__notes__", ()))
    assert ("In data worker 0" in notes and "in faulty" in notes) == (kind in ("plain", "unpicklable"))
    assert list(each) == []


@pytest.mark.parametrize("how", ["close", "forget"])
def test_processes_end_with_close_and_when_forgotten(how: str) -> None:
    each = Workers(process_ids, 2, 2)
    processes = [next(each), next(each)]
    assert all(map(is_alive, processes)) and len(set(processes)) == 2
    each.close() if how == "close" else None
    del each
    gc.collect()
    assert wait_until_gone(processes)


def test_a_process_that_is_busy_does_not_hold_up_the_end() -> None:
    each = Workers(stubborn, 1, 2)
    process, began = next(each), time.monotonic()
    each.close()
    assert time.monotonic() - began < 8
    assert wait_until_gone([process])


def test_no_descriptor_and_no_memory_is_left_behind() -> None:
    list(Workers(partial(arrays, 1), 1, 1))  # what is opened once, such as multiprocessing's tracker
    before = len(os.listdir("/proc/self/fd"))
    found = list(Workers(partial(arrays, 5), 2, 1))
    assert Path("/proc/self/maps").read_text().count("memfd:item") == 5
    del found
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert "memfd:item" not in Path("/proc/self/maps").read_text()


PARENT = """
import json, sys, time
from data_pipeline.workers import Workers
from tests.data_pipeline.worker_items import process_ids, stubborn
if __name__ == "__main__":
    each = Workers({make}, 2, 2)
    print(json.dumps([next(each), next(each)]), flush=True)
    {then}
"""


@pytest.mark.parametrize(
    ("make", "then", "sent", "code"),
    [
        ("stubborn", "time.sleep(60)", signal.SIGKILL, -signal.SIGKILL),
        ("process_ids", "time.sleep(60)", signal.SIGKILL, -signal.SIGKILL),
        ("process_ids", "next(iter(lambda: time.sleep(0.01), 1))", signal.SIGINT, -signal.SIGINT),
        ("stubborn", "pass", None, 0),
    ],
)
def test_processes_do_not_outlive_their_parent(
    tmp_path: Path, make: str, then: str, sent: int | None, code: int
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(make=make, then=then))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=-1,
        stderr=-1,
        text=True,
        env=environment,
        start_new_session=True,
        # a shell that runs the tests in the background has them ignore Ctrl-C, and their children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert parent.stdout is not None
    processes = json.loads(parent.stdout.readline())
    if sent == signal.SIGINT:
        os.killpg(parent.pid, sent)  # as a terminal does
    elif sent is not None:
        parent.send_signal(sent)
    _, errors = parent.communicate(timeout=30)
    assert parent.returncode == code
    assert errors.count("Traceback") == (sent == signal.SIGINT)  # the parent's own
    assert wait_until_gone(processes)
