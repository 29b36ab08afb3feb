"""Questions about a schema of nested dataclasses: which options exist, of which type, and which one was
probably meant.
"""

import dataclasses
import difflib
import types
from collections.abc import Iterable, Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", bool: "true or false values", str: "texts"}


def option_paths(schema: type, prefix: str = "") -> Iterator[str]:
    """Every option below `schema` as a dotted name: `optim.lr`. A dictionary counts as one option."""
    for name, kind in get_type_hints(schema).items():
        if dataclasses.is_dataclass(kind):
            yield from option_paths(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{name}"


def option_type(schema: type, path: str) -> Any:
    """The annotated type of the option `path`, None where no such option exists. Below an untyped dictionary
    everything is Any.
    """
    kind: Any = schema
    for part in path.split("."):
        kind = _without_none(kind)
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind).get(part)
            if kind is None:
                return None
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif get_origin(kind) is list and part.isdecimal():
            kind = get_args(kind)[0]
        elif kind in (dict, Any):
            return Any
        else:
            return None
    return kind


def is_open(kind: Any) -> bool:
    """Whether names may be added below an option of this type: it is a dictionary."""
    return kind in (dict, Any) or get_origin(_without_none(kind)) is dict


def is_section(kind: Any) -> bool:
    """Whether an option of this type is a group of options."""
    return dataclasses.is_dataclass(_without_none(kind))


def accepts(kind: Any, value: Any) -> bool:
    """Whether `value` can be an option of this type: as OmegaConf sees it, but also inside lists, where it looks away."""
    bare = _without_none(kind)
    if get_origin(bare) is list and isinstance(value, list):
        return all(accepts(get_args(bare)[0], element) for element in value)
    if bare in WORDS and isinstance(value, dict | list):
        return False
    trial = OmegaConf.structured(dataclasses.make_dataclass("Trial", [("option", kind)]))
    try:
        OmegaConf.update(trial, "option", value)
    except OmegaConfBaseException:
        return False
    return True


def expected(kind: Any) -> str:
    """What a value of this type looks like, in words."""
    bare = _without_none(kind)
    words = WORDS.get(bare)
    if words is None and get_origin(bare) is list:
        element = get_args(bare)[0]
        words = f"a list of {PLURALS.get(element, 'values')}, such as {'[1,2]' if element in (int, float) else '[a,b]'}"
    elif words is None:
        words = (
            "a dictionary, {name: value}"
            if is_open(bare)
            else "a value of type " + getattr(bare, "__name__", str(bare))
        )
    return words if bare == kind else f"{words}, or null"


def nearest(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """The candidates that `name` was most probably meant to be: alike as a whole, or alike in the last part
    of the dotted name.
    """
    known = list(dict.fromkeys(candidates))
    last = name.rpartition(".")[2]
    tails: dict[str, list[str]] = {}
    for candidate in known:
        tails.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    siblings = [c for c in known if c.rpartition(".")[0] == name.rpartition(".")[0]]
    found = difflib.get_close_matches(name, siblings, limit, 0.7) + tails.get(last, [])
    found += difflib.get_close_matches(name, known, limit, 0.7)
    for tail in difflib.get_close_matches(last, tails, limit, 0.75):
        found += tails[tail]
    return list(dict.fromkeys(found))[:limit]


def _without_none(kind: Any) -> Any:
    """`X | None` → `X`; any other type as it is."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [member for member in get_args(kind) if member is not types.NoneType]
        return rest[0] if len(rest) == 1 else kind
    return kind
