"""In which settings two runs differ."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from train.settings import read_settings

NAMES = ("run.name", "run.directory", "overrides")  # what a run is called changes no number


def different_settings(first: Path, second: Path) -> list[tuple[str, Any, Any]]:
    """(name, first's value, second's value) of every setting that differs, in the order of config.yaml; None where one lacks it."""
    one, two = (dict(_flat(read_settings(folder / "config.yaml"))) for folder in (first, second))
    names = [name for name in dict.fromkeys((*one, *two)) if not name.startswith(NAMES)]
    return [(name, one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
