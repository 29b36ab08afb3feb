"""A run's config.yaml, which may be a stranger's: plain values and nothing that stands for something else.

OmegaConf would put variables of the environment where a file says `${oc.env:NAME}`, and YAML lets a short file stand for a
huge one. What a run writes has neither.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_pipeline.errors import UserError
from data_pipeline.small_file import read_small

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
LARGEST = 1 << 20  # bytes; a run writes 5 kB
DEEPEST = 20  # levels; a run writes 5, and a reader of YAML that calls itself for each ends the process at some 10000
MOST_BRACKETS = 2000  # a run writes less than 100; a reader of YAML takes quadratic time for what is nested


def read_settings(path: Path) -> dict[str, Any]:
    """The file's mapping as it is written. Raises UserError, naming the file, for anything else."""
    try:
        text = read_small(path, LARGEST).decode("utf-8")
        if text.count("[") + text.count("{") > MOST_BRACKETS:
            raise _unusable(path, "too many brackets")
        depth = 0
        for event in yaml.parse(text, LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise _unusable(path, f"more than {DEEPEST} levels")
            if isinstance(event, yaml.AliasEvent):
                raise _unusable(path, "it has aliases, which no run writes")
        found = yaml.load(text, LOADER)
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise _unusable(path, str(error).splitlines()[0]) from error
    if not isinstance(found, dict):
        raise _unusable(path, "no mapping")
    return _literal(found, path)


def section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One section; empty where there is none."""
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def _literal(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """The mapping, in which nothing is left to resolve: a run writes values. Only the words of its command, kept as they were
    typed, may have interpolations in them, and are escaped.
    """
    if "${" in json.dumps({**found, "overrides": None}, default=str, skipkeys=True, ensure_ascii=False):
        raise _unusable(path, "it has interpolations (${...}), which no run writes")
    typed = found.get("overrides")
    if isinstance(typed, list):
        found["overrides"] = [word.replace("${", "\\${") if isinstance(word, str) else word for word in typed]
    return found


def _unusable(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: not the configuration of a run ({reason})")
