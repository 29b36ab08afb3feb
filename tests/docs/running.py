"""Runs commands as a shell would, without waiting for Python to import torch each time.

Each is a real process with a folder, arguments, files for what it says and an exit code of its own. It is forked from the
server that the ranks of other tests come from, which has imported torch, megatron-core and DeepSpeed, and becomes
`python -m MODULE`.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranks import free_ports, process

from tests.docs.launches import Launch
from tests.forked import become, launched

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
    arguments, first = [launch.module, *launch.arguments], _leave_out_main if checked_only else None
    ranks = [
        process(become, arguments, folder, (said, said), {**os.environ, **dict(launch.environment), **launched(number, launch.world, port)}, first)
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


def _leave_out_main() -> None:
    """From here on conf.command.run does everything but the last: it composes, checks, and answers 0."""
    from conf import command

    whole = command.run

    def up_to_main(main: Any, *args: Any, **settings: Any) -> int:
        return whole(lambda config: 0, *args, **settings)

    command.run = up_to_main
