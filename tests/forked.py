"""`python -m MODULE …` in processes that import nothing anew: each is forked from the server that the ranks of tests come from.

Real processes all the same, with arguments, environment, folder, output and exit code of their own. Some seconds of a core each
are what this saves; a few tests in each room start Python itself, as people do.
"""

import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ranks import free_ports, process

ROOT = Path(__file__).parents[1]


def run(
    arguments: Sequence[str], world: int = 1, cwd: Path = ROOT, timeout: float = 240.0, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`arguments` as behind `python -m`, by as many ranks as torchrun would start. What all ranks say is together; the exit code
    is that of the first rank which failed. variables: of the environment, beside its own. AssertionError after `timeout` seconds.
    """
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as said:
        streams = Path(said) / "out", Path(said) / "err"
        environment = {**os.environ, **(variables or {})}
        ranks = [process(become, [*arguments], cwd, streams, environment | launched(rank, world, port)) for rank in range(world)]
        for rank in ranks:
            rank.start()
        deadline = time.monotonic() + timeout
        try:
            for rank in ranks:
                rank.join(max(0.0, deadline - time.monotonic()))
                assert rank.exitcode is not None, f"{arguments} hangs:\n{(Path(said) / 'err').read_text()}"
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()
        out, err = ((Path(said) / name).read_text() for name in ("out", "err"))
    code = next((rank.exitcode for rank in ranks if rank.exitcode), 0)
    return subprocess.CompletedProcess([*arguments], code, out, err)


def launched(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun would tell a rank; nothing for a process of its own."""
    if world == 1:
        return {}
    sizes = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)} | sizes


def become(
    arguments: Sequence[str],
    cwd: Path,
    streams: tuple[Path, Path],
    environment: Mapping[str, str],
    first: Callable[[], object] | None = None,
) -> None:
    """What a forked process does: it turns into `python -m ARGUMENTS`. streams: files that stdout and stderr are appended to;
    first: called before it begins.
    """
    for number, said in zip((1, 2), streams, strict=True):
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.environ.clear()  # the server's is of the moment it began
    os.environ.update(environment, PYTHONPATH=str(ROOT))
    os.chdir(cwd)
    if first is not None:
        first()
    module, *words = arguments
    sys.argv = [f"python -m {module}", *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
