"""Tree edit distance, against the plain recurrence over forests and against the package apted.

apted 1.0.3 itself overestimates the distance of a few random trees in a thousand, so that the recurrence decides.
"""

import random
from functools import cache
from typing import Any

import pytest
from apted import APTED, Config

from train.evaluate.metrics.trees import Tree, tree_distance

Frozen = tuple[Any, ...]


def rename(one: int, other: int) -> float:
    return min(abs(one - other) / 2, 1.0)


class AptedConfig(Config):  # type: ignore[misc]
    def rename(self, node1: Tree[int], node2: Tree[int]) -> float:
        return rename(node1.label, node2.label)

    def children(self, node: Tree[int]) -> list[Tree[int]]:
        return node.children


def frozen(tree: Tree[int]) -> Frozen:
    return tree.label, tuple(frozen(child) for child in tree.children)


@cache
def nodes(forest: Frozen) -> int:
    return sum(1 + nodes(children) for _, children in forest)


@cache
def forest_distance(left: Frozen, right: Frozen) -> float:
    """The definition: delete or insert the last root, or match both last roots with each other."""
    if not left or not right:
        return float(nodes(left) + nodes(right))
    (one, below), (other, under) = left[-1], right[-1]
    return min(
        forest_distance(left[:-1] + below, right) + 1,
        forest_distance(left, right[:-1] + under) + 1,
        forest_distance(left[:-1], right[:-1]) + forest_distance(below, under) + rename(one, other),
    )


def random_tree(generator: random.Random, size: int) -> Tree[int]:
    found = [Tree(generator.randrange(4))]
    for _ in range(size - 1):
        child, parent = Tree(generator.randrange(4)), generator.choice(found)
        parent.children.insert(generator.randrange(len(parent.children) + 1), child)
        found.append(child)
    return found[0]


def test_distance_agrees_with_the_recurrence_and_nearly_always_with_apted() -> None:
    generator, agreed = random.Random(1), 0
    for _ in range(400):
        left, right = (random_tree(generator, generator.randrange(1, 11)) for _ in range(2))
        distance = tree_distance(left, right, rename)
        assert distance == pytest.approx(forest_distance((frozen(left),), (frozen(right),)))
        theirs = APTED(left, right, AptedConfig()).compute_edit_distance()
        assert distance <= theirs + 1e-9
        agreed += distance == pytest.approx(theirs)
    assert agreed >= 395


def test_distance_agrees_with_apted_on_trees_of_tables() -> None:
    generator = random.Random(2)

    def table() -> Tree[int]:
        rows = [
            Tree(1, [Tree(generator.randrange(4)) for _ in range(generator.randrange(1, 6))])
            for _ in range(5)
        ]
        return Tree(0, rows[: generator.randrange(1, 6)])

    for _ in range(150):
        left, right = table(), table()
        theirs = APTED(left, right, AptedConfig()).compute_edit_distance()
        assert tree_distance(left, right, rename) == pytest.approx(theirs)


def test_distance_of_known_trees() -> None:
    """The example of Zhang and Shasha: f(d(a c(b)) e) and f(c(d(a b)) e) are two apart."""

    def exact(one: str, other: str) -> float:
        return float(one != other)

    left = Tree("f", [Tree("d", [Tree("a"), Tree("c", [Tree("b")])]), Tree("e")])
    right = Tree("f", [Tree("c", [Tree("d", [Tree("a"), Tree("b")])]), Tree("e")])
    assert tree_distance(left, right, exact) == 2
    assert tree_distance(left, left, exact) == 0
    assert tree_distance(Tree("f"), left, exact) == 5


def test_a_deep_tree_needs_no_deep_stack() -> None:
    def chain(length: int) -> Tree[int]:
        tree = Tree(0)
        for _ in range(length - 1):
            tree = Tree(0, [tree])
        return tree

    assert tree_distance(chain(300), chain(290), rename) == 10
