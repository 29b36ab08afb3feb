"""Options that the pages name exist: every `option=value` between backticks, and every `python -m module`."""

import contextlib
import re
import runpy
import sys
from functools import cache
from pathlib import Path

import pytest

from conf import command
from conf.compose import FOLDER
from conf.schema import option_type
from tests.docs.commands import LIVING, ROOT
from tests.docs.flow import is_composed
from tests.docs.test_links import prose

OPTION = re.compile(r"(?<!\S)[~+]?([a-z_]\w*(?:[./][\w-]+)*)=([^\s,]*)")
MODULE = re.compile(r"python -m ([\w.]+)")


@cache
def schemas() -> tuple[type, ...]:
    """The schema of each command whose options are composed, by asking it."""
    found: list[type] = []
    whole, before = command.run, sys.argv

    def kept(main: object, name: str, schema: type, *_: object, **__: object) -> int:
        found.append(schema)
        return 0

    command.run = kept  # type: ignore[assignment]
    try:
        for module in composed_modules():
            sys.argv = [module]
            with contextlib.suppress(SystemExit):
                runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        command.run, sys.argv = whole, before
    return tuple(found)


def composed_modules() -> list[str]:
    """Every `python -m MODULE` of the repository that conf.command answers."""
    files = [file for top in ("train", "data_pipeline") for file in sorted((ROOT / top).rglob("*.py"))]
    names = []
    for file in files:
        if '__name__ == "__main__"' in file.read_text():
            parts = file.relative_to(ROOT).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__main__" else parts))
    return [name for name in names if is_composed(name)]


def exists(name: str, value: str) -> bool:
    """Whether any command has this option, or the group this choice."""
    if any(option_type(schema, name) is not None for schema in schemas()):
        group = FOLDER / name
        chosen = value.strip("'\"")
        return not group.is_dir() or not re.fullmatch(r"\w+", chosen) or _is_choice(name, chosen)
    return (FOLDER / name).is_dir() and (not re.fullmatch(r"\w+", value) or _is_choice(name, value))


def _is_choice(group: str, choice: str) -> bool:
    plain = any(option_type(schema, group) in (str, str | None, list[str]) for schema in schemas())
    return plain or (FOLDER / group / f"{choice}.yaml").is_file()


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(page))


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_options_that_are_named_exist(page: Path) -> None:
    named = {(name, value) for span in spans(page) for name, value in OPTION.findall(span)}
    unknown = sorted(f"{name}={value}" for name, value in named if not exists(name, value))
    assert not unknown, f"{page.name} names options that no command has: {', '.join(unknown)}"


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_modules_that_are_named_run(page: Path) -> None:
    for module in {name for span in spans(page) for name in MODULE.findall(span)}:
        is_composed(module)  # AssertionError where there is nothing to run
