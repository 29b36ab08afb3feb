"""Small files that may be a stranger's: read whole, but never a pipe, a device, or more than such a file ever has."""

import json
from pathlib import Path
from typing import Any

LARGEST = 1 << 28  # bytes; the largest tokenizer known takes 30 MB, the index of a large shard 50 MB


def read_small(path: Path, most: int = LARGEST) -> bytes:
    """The file's bytes. Raises OSError for what is no plain file or larger than `most`."""
    state = path.stat()
    if not path.is_file():
        raise OSError(None, "it is no plain file", str(path))
    if state.st_size > most:
        raise OSError(None, f"it has {state.st_size} bytes, and at most {most} are read", str(path))
    return path.read_bytes()


def read_small_json(path: Path, most: int = LARGEST) -> Any:
    """The JSON in a file. Raises OSError as `read_small`, ValueError for anything that is no JSON, however deep."""
    try:
        return json.loads(read_small(path, most))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
