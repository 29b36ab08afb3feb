"""Runs commands as a shell would, without waiting for Python to import torch each time.

Each is a real process with a folder, arguments, files for what it says and an exit code of its own. It is forked from the
server that the ranks of other tests come from, which has imported torch, megatron-core and DeepSpeed, and becomes
`python -m MODULE`.
"""

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ranks import GPU, PRELOADED, free_ports

from tests.docs.commands import ROOT
from tests.docs.launches import Launch

LONGEST = 240.0  # seconds


@dataclass(frozen=True)
class Done:
    """A command that has ended. codes: by rank. said: what it wrote to both streams. seconds: that it took."""

    codes: list[int]
    said: str
    seconds: float


def run(launch: Launch, folder: Path, said: Path, checked_only: bool = False) -> Done:
    """Runs it in `folder` until all its processes have ended. said: a file that gets what they write.

    checked_only: the configuration is composed and checked, and nothing is done with it. AssertionError after LONGEST.
    """
    (port,) = free_ports(1)
    began = time.monotonic()
    ranks = [
        process(_become, launch, folder, said, dict(os.environ), number, port, checked_only)
        for number in range(launch.world)
    ]
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join(max(0.0, began + LONGEST - time.monotonic()))
            assert rank.exitcode is not None, f"{launch} hangs:\n{said.read_text()}"
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    codes = [rank.exitcode for rank in ranks]
    return Done(codes, said.read_text(), time.monotonic() - began)  # type: ignore[arg-type]


def process(target: Callable[..., None], *args: Any) -> BaseProcess:
    """A process that imports nothing anew, not started yet."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    context = multiprocessing.get_context("spawn" if GPU else "forkserver")  # CUDA does not survive a fork
    return context.Process(target=target, args=args)  # type: ignore[attr-defined]


def _become(
    launch: Launch, folder: Path, said: Path, environment: dict[str, str], rank: int, port: int, checked_only: bool
) -> None:
    """What a forked process does: a terminal, the environment of a shell or of torchrun, and `python -m`."""
    for number in (1, 2):
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.environ.clear()  # the server's is of the moment it began
    os.environ.update(environment)
    os.environ.update(launch.environment, PYTHONPATH=str(ROOT))  # as in the folder of the repository, where readers type
    if launch.world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(launch.world))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.chdir(folder)
    if checked_only:
        _leave_out_main()
    sys.argv = [f"python -m {launch.module}", *launch.arguments]
    runpy.run_module(launch.module, run_name="__main__", alter_sys=True)


def _leave_out_main() -> None:
    """From here on conf.command.run does everything but the last: it composes, checks, and answers 0."""
    from conf import command

    whole = command.run

    def up_to_main(main: Any, *args: Any, **settings: Any) -> int:
        return whole(lambda config: 0, *args, **settings)

    command.run = up_to_main
