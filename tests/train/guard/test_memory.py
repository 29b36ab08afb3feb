"""Too little memory: a real limit on a real process, and what is told."""

import ctypes
import re
import resource
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.faults.harness import Runs, status
from tests.faults.injections import before_step
from train.config import Config
from train.guard.memory import OutOfMemory, is_out_of_memory, naming_what_is_too_large, needing_less

FROM_THE_SYSTEM = -3, 1 << 16  # M_MMAP_THRESHOLD of mallopt: arrays of this size come from the system and not from a stock


def no_more_memory() -> None:
    """The system gives this process nothing any more."""
    ctypes.CDLL(None).mallopt(*FROM_THE_SYSTEM)
    used = int(re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (used, used))


@pytest.mark.fault(
    "out of memory",
    injected="the system refuses rank 1 of 2 every allocation from step 3 on (RLIMIT_AS)",
    handled="one message with the micro-batch, the place and the overrides that need less, exit code 76; status.json has it, though "
    "rank 0 lost a peer; the same command goes on from the newest checkpoint",
    lost="the steps since the newest checkpoint",
)
def test_a_rank_without_memory_tells_what_was_too_large_and_what_needs_less(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ("stage.evaluate_every=100", "stage.save_in_background=false")
    done = runs.run(folder, *settings, world=2, faults={1: partial(before_step, {3: no_more_memory})})
    assert done.codes == [75, 76], done.err(0) + done.err(1)
    said = done.err(1)
    assert "Traceback" not in said and said.count("out of memory") == 1
    # step 4, where step 3 still found what it needed in what the process had
    assert re.search(r"\(the host's\) on rank 1, in step [34], a micro-batch of 2 rows x \d+ positions, 2 pages in 2 views of 64 pixels; in ", said), said
    assert "data.micro_batch=1, engine.recompute=full, engine.precision=bf16, engine.zero=2" in said and "train.plan" in said
    told = status(folder)
    assert told["state"] == "failed" and told["user_error"] is True and told["saved_step"] == 2
    assert told["error"].startswith("rank 1: OutOfMemory: out of memory") and "data.micro_batch=1" in told["error"]
    again = runs.run(folder, *settings, "data.micro_batch=1")
    assert again.codes == [0] and "resumed after step 2" in again.out()


def test_what_allocators_say_is_known_and_other_errors_are_not() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))


def test_the_message_says_how_much_was_asked_for_and_what_for() -> None:
    naming = partial(naming_what_is_too_large, Config(), 3)
    told = r"on rank 3, in step 7; .*, which asked for 1099511627776 MiB\. Less is needed with"
    with pytest.raises(OutOfMemory, match=told), naming(lambda: "step 7"):
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(ValueError, match="another"), naming(lambda: "step 7"):
        raise ValueError("another")
    with pytest.raises(OutOfMemory, match=told), naming(lambda: "its start"):  # what fails next is no news
        try:
            with naming(lambda: "step 7"):
                torch.empty(1 << 60, dtype=torch.uint8)
        finally:
            raise RuntimeError("can't start new thread")


def test_only_what_would_change_something_is_advised() -> None:
    config = Config()
    config.data.micro_batch, config.engine.recompute, config.engine.precision, config.engine.zero = 1, "full", "bf16", 3
    assert needing_less(config, world=8) == ["engine.offload=true", "parallel.tensor=2 on more processes"]
    config.data.micro_batch, config.engine.zero, config.run.device = 6, 1, "cpu"
    assert needing_less(config, world=8)[:2] == ["data.micro_batch=3", "engine.zero=2"]
    config.parallel.pipeline = 2
    assert not any("zero" in advice for advice in needing_less(config, world=8)), "a pipeline has stage 1 only"
