from dataclasses import dataclass, field
from typing import Any

import pytest

from conf import schema


@dataclass
class Leaf:
    lr: float = 1.0
    layers: list[int] = field(default_factory=list)
    start: str | None = None


@dataclass
class Root:
    optim: Leaf = field(default_factory=Leaf)
    sources: dict[str, Leaf] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def test_option_paths_are_the_leaves_and_the_dictionaries() -> None:
    assert list(schema.option_paths(Root)) == [
        "optim.lr",
        "optim.layers",
        "optim.start",
        "sources",
        "extra",
        "seed",
    ]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("optim", Leaf),
        ("optim.lr", float),
        ("sources.any_name", Leaf),
        ("sources.any_name.lr", float),
        ("optim.layers.0", int),
        ("extra.whatever", Any),
        ("optim.lrr", None),
        ("seed.more", None),
        ("sources.any_name.lrr", None),
    ],
)
def test_option_type_follows_sections_lists_and_dictionaries(path: str, kind: object) -> None:
    assert schema.option_type(Root, path) == kind


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (str | None, "text, or null"),
        (list[float], "a list of numbers, such as [1,2]"),
        (list[str], "a list of texts, such as [a,b]"),
        (dict[str, Leaf], "a dictionary, {name: value}"),
    ],
)
def test_expected_says_the_type_in_words(kind: object, words: str) -> None:
    assert schema.expected(kind) == words


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [(int, 3, True), (int, "abc", False), (int, 1.5, False), (float, 1, True), (float, None, False),
     (str | None, None, True), (list[int], [1, "a"], False), (list[int], 3, False), (Leaf, {"lr": 2}, True),
     (Leaf, {"lrr": 2}, False)],
)  # fmt: skip
def test_accepts_what_omegaconf_takes(kind: object, value: object, taken: bool) -> None:
    assert schema.accepts(kind, value) is taken


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("optim.lrr", "optim.lr"),
        ("lr", "optim.lr"),
        ("optin.lr", "optim.lr"),
        ("sede", "seed"),
        ("zzz", None),
    ],
)
def test_nearest_finds_what_was_meant(typed: str, meant: str | None) -> None:
    found = schema.nearest(typed, schema.option_paths(Root))
    assert (found[0] if found else None) == meant
