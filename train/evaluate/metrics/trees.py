"""How far two ordered trees are apart: the least cost of deleting, inserting and renaming nodes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Label = TypeVar("Label")


@dataclass
class Tree(Generic[Label]):
    """A node with what it holds and its children in order."""

    label: Label
    children: list["Tree[Label]"] = field(default_factory=list)


def tree_distance(left: Tree[Label], right: Tree[Label], rename: Callable[[Label, Label], float]) -> float:
    """Tree edit distance: 1 for a node deleted or inserted, `rename(left label, right label)` for one renamed.

    Zhang and Shasha (SIAM J. Comput. 18, 1989). A table's tree is three deep, so that the time grows with the
    product of the two sizes; renames are asked for once a pair of nodes.
    """
    first, second = _postorder(left), _postorder(right)
    costs = [[rename(one, other) for other in second.labels] for one in first.labels]
    distances = [[0.0] * len(second.labels) for _ in first.labels]
    for row in first.roots:
        for column in second.roots:
            _forests(first.leftmost, second.leftmost, row, column, costs, distances)
    return distances[-1][-1]


@dataclass
class _Postorder(Generic[Label]):
    """Nodes children first. `leftmost`: each node's leftmost leaf; `roots`: the root and every node that has a
    sibling to its left, whose subtrees need forests of their own.
    """

    labels: list[Label]
    leftmost: list[int]
    roots: list[int]


def _postorder(tree: Tree[Label]) -> _Postorder[Label]:
    labels: list[Label] = []
    leftmost: list[int] = []
    waiting: list[tuple[Tree[Label], int, int]] = [(tree, 0, 0)]  # node, children begun, its leftmost leaf
    while waiting:
        node, begun, leaf = waiting.pop()
        if begun < len(node.children):
            waiting += [(node, begun + 1, leaf), (node.children[begun], 0, len(labels))]
        else:
            labels.append(node.label)
            leftmost.append(leaf)
    last = {leaf: index for index, leaf in enumerate(leftmost)}
    return _Postorder(labels, leftmost, sorted(last.values()))


def _forests(
    left_leaf: list[int],
    right_leaf: list[int],
    row: int,
    column: int,
    costs: list[list[float]],
    distances: list[list[float]],
) -> None:
    """Fills `distances` for the pairs of subtrees along the leftmost paths of nodes `row` and `column`."""
    top, side = left_leaf[row], right_leaf[column]
    width = column - side + 2
    table = [[float(index) for index in range(width)]]
    for node in range(top, row + 1):
        above = table[-1]
        line = [above[0] + 1.0]
        whole = left_leaf[node] == top
        before, cost, distance = table[left_leaf[node] - top], costs[node], distances[node]
        for other in range(side, column + 1):
            place = other - side
            if whole and right_leaf[other] == side:
                change = above[place] + cost[other]
            else:
                change = before[right_leaf[other] - side] + distance[other]
            best = min(above[place + 1] + 1.0, line[place] + 1.0, change)
            line.append(best)
            if whole and right_leaf[other] == side:
                distance[other] = best
        table.append(line)
