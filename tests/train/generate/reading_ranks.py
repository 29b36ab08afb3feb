"""What each rank does for `test_command`. Torch is imported inside, when the environment of the rank is complete."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from train.generate.config import GenerateConfig, check

LAYOUTS: dict[str, dict[str, Any]] = {
    "alone": {},
    "each its share": {"batch_size": 3},
    "tensor ranks": {"tensor": 2},
    "tensor ranks that print": {"tensor": 2, "out": None},
    "tensor ranks that stream": {"tensor": 2, "out": None, "pages": "2"},
}


def settings(root: Path, layout: str) -> GenerateConfig:
    """The book of `root`, read by its run into a folder named like the layout."""
    options: dict[str, Any] = {
        "out": str(root / layout),
        "batch_size": 2,
        "dpi": 72,
        "prompt": "read",
    } | LAYOUTS[layout]
    config = GenerateConfig(checkpoint=str(root / "run"), image=[str(root / "book.pdf")], **options)
    check(config)
    return config


def read(root: str, layouts: list[str], ports: list[int]) -> dict[str, tuple[int, str]]:
    """Of each layout: exit code, and what was printed."""
    found = {}
    for layout, port in zip(layouts, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        from train.generate.command import main

        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = main(settings(Path(root), layout))
        found[layout] = code, printed.getvalue()
    return found
