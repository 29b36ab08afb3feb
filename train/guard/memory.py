"""Too little memory, told as one message: what was being computed, where, and which settings need less. Imports no torch."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from train.config import Config
from train.launch.peers import frames_of, place

if TYPE_CHECKING:
    from data_pipeline.batch import MicroBatch

OUT_OF_MEMORY = 76  # the exit code: the same start fails again with the same settings
PHRASES = (  # of torch's allocators, the C++ library, oneDNN, CUDA's libraries and NCCL
    "can't allocate memory",
    "CUDA out of memory",
    "std::bad_alloc",
    "could not create a primitive",
    "_ALLOC_FAILED",
    "out of memory",
    "unable to mmap",
    "Cannot allocate memory",
)


class OutOfMemory(Exception):
    """This process was refused memory. The message says what for and what needs less."""

    user_error = True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, of the host or of a GPU, said no."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)


@contextmanager
def naming_what_is_too_large(config: Config, rank: int, doing: Callable[[], str]) -> Iterator[None]:
    """Inside, what an allocator refuses is raised as OutOfMemory. doing: "step 3, in a micro-batch of …"."""
    try:
        yield
    except Exception as error:
        found = _told_before(error)
        if found is None and not is_out_of_memory(error):
            raise
        found = found or OutOfMemory(_message(config, rank, doing(), error))
        error.__traceback__ = None  # it holds the tensors of all frames
        raise found from None


def _told_before(error: BaseException) -> OutOfMemory | None:
    """What an error that arose while a process without memory was ending comes from."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, OutOfMemory):
        at = at.__context__
    return at


@contextmanager
def ending_out_of_memory(program: str, rank: int) -> Iterator[None]:
    """Inside, OutOfMemory ends this process at once, with its message and exit code OUT_OF_MEMORY; peers see that it is gone."""
    try:
        yield
    except OutOfMemory as error:
        sys.stdout.flush()
        print(f"{program} [rank {rank}]: {error}", file=sys.stderr, flush=True)
        os._exit(OUT_OF_MEMORY)


def described(batch: "MicroBatch") -> str:
    """The size of a micro-batch: "a micro-batch of 8 rows x 512 positions, 8 pages in 24 views of 256 pixels"."""
    rows, length = batch.shape()
    views = " and ".join(f"{len(stack)} views of {stack.shape[-1]} pixels" for stack in batch.views)
    return f"a micro-batch of {rows} rows x {length} positions, {len(batch.shown)} pages in {views}"


def needing_less(config: Config, world: int) -> list[str]:
    """Overrides that take less memory than `config`, the cheapest in speed first."""
    micro, engine, parallel = config.data.micro_batch, config.engine, config.parallel
    data = max(1, world // (parallel.tensor * parallel.pipeline))
    found = []
    if micro > 1:
        found.append(f"data.micro_batch={micro // 2 if micro % 2 == 0 else 1}")
    if engine.recompute != "full":
        found.append("engine.recompute=full")
    if engine.precision == "fp32":
        found.append("engine.precision=bf16")
    if data > 1 and parallel.pipeline == 1 and engine.zero < (2 if parallel.expert > 1 else 3):
        found.append(f"engine.zero={engine.zero + 1}")
    if not engine.offload and config.run.device != "cpu":
        found.append("engine.offload=true")
    found.append(f"parallel.tensor={2 * parallel.tensor} on more processes")
    return found


def _message(config: Config, rank: int, doing: str, error: BaseException) -> str:
    world = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    where = place(frames_of(error.__traceback__))
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ ?(?:[KMG]iB|bytes))", str(error))
    wanted = f", which asked for {_readable(asked[1])}" if asked else ""
    kind = "GPU" if "CUDA" in str(error) or "NCCL" in str(error) else "host"
    return (
        f"out of memory (the {kind}'s) on rank {rank}, in {doing}; {where}{wanted}. Less is needed with "
        f"{', '.join(needing_less(config, world))}; python -m train.plan tells what a rank needs before it starts. The newest "
        "checkpoint, if there is one, stands: the same command with such a setting goes on from it."
    )


def _readable(size: str) -> str:
    """ "2.00 GiB" as it is; of plain bytes, their number in MiB."""
    number = size.split()[0]
    return f"{int(number) / 2**20:.0f} MiB" if size.endswith("bytes") else size


def at_step(step: int, batch: Any) -> str:
    """What a run is at: `batch` is the micro-batch whose forward or backward is under way, None between them."""
    return f"step {step}, {described(batch)}" if batch is not None else f"step {step}, between micro-batches"
