"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing so that it appears under its name only when every byte is on disk.

    The bytes go to a neighbour whose name ends in `.part`, are flushed and fsynced, then renamed over `path`;
    after an exception, or a kill, `path` is what it was before. Of two processes that write the same path, the one
    that ends last wins.
    """
    part = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
