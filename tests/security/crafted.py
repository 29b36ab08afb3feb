"""What an attacker would put into files: payloads that leave a mark when anything runs them."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

DEEP = b"[" * 100_000  # JSON and YAML that end a reader which calls itself for every level


class Running:
    """A pickle of it runs a command where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def running(mark: Path) -> bytes:
    """A pickle that makes the file `mark` when it is loaded."""
    return pickle.dumps(Running(mark))


def pipe(path: Path) -> Path:
    """A named pipe nobody writes to: who opens it waits for ever."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def npy(shape: str, descr: str = "'|O'", body: bytes = b"") -> bytes:
    """An .npy file whose header says what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body
