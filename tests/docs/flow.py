"""What a documented command reads and writes, by its composed configuration: so each finds what it needs, in whatever order
pages tell of them.
"""

import contextlib
import importlib.util
import io
import re
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests.docs.launches import Launch

READS_NOTHING = {"train.plan"}  # its options are those of `python -m train`, paths included


@dataclass(frozen=True)
class Flow:
    """Paths, relative to where the command is typed. writes: the folder it makes, None where it writes beside what it reads."""

    writes: str | None
    reads: tuple[str, ...]

    def makes(self, path: str) -> bool:
        """Whether `path` is the folder that it writes, or lies in it."""
        return self.writes is not None and PurePosixPath(path).is_relative_to(self.writes)


@cache
def flow(launch: Launch) -> Flow:
    """What the command reads and writes. AssertionError with its own words where it refuses the configuration."""
    if not is_composed(launch.module):
        typed = dict(zip(launch.arguments, launch.arguments[1:], strict=False))
        return Flow(typed.get("--out"), tuple(word for word in launch.arguments if not word.startswith("-")))
    settings = composed(launch)
    run = settings.get("run")
    if launch.module == "train":
        writes = f"{run['directory']}/{run['name']}"
    elif launch.module == "train.recipe":
        writes = f"{settings['directory']}/{settings['name']}"
    else:
        writes = settings.get("to") or settings.get("out")
    found = () if launch.module in READS_NOTHING else dict.fromkeys(_texts(settings))
    return Flow(writes, tuple(path for path in found if path != writes))


@cache
def is_composed(module: str) -> bool:
    """Whether a module's command line is conf.command's. AssertionError where there is no such module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    if spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{module}.__main__")
    assert spec is not None and spec.origin, f"python -m {module} runs nothing"
    return re.search(r"from conf.command import .*\brun\b", Path(spec.origin).read_text()) is not None


def composed(launch: Launch) -> dict[str, Any]:
    """The configuration that `--cfg job` shows: composed in this process, which loads nothing heavy for it."""
    shown, told = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, [launch.module, *launch.arguments, "--cfg", "job", "--resolve"]
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(told):
            runpy.run_module(launch.module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, told.getvalue()
    finally:
        sys.argv = before
    return yaml.load(shown.getvalue(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _texts(value: Any) -> Iterator[str]:
    """Every text in a configuration; of texts that are overrides, their values."""
    if isinstance(value, str):
        yield value.rpartition("=")[2]
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member)
