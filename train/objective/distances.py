"""How far a student's features are from its teacher's: last hidden states, and vision tokens of the same pages.

Shapes: N labelled positions, P pages, V views, F vision tokens a side (f of the student), E width of the teacher.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from data_pipeline.shown import Shown

Distance = Callable[[Tensor, Tensor], Tensor]


def squared(student: Tensor, teacher: Tensor) -> Tensor:
    """[..., E] -> [...]: mean of the squared differences."""
    return (student - teacher).square().mean(-1)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """[..., E] -> [...]: 1 - cosine of the angle between both; 0 for the same direction."""
    return 1.0 - F.cosine_similarity(student, teacher, dim=-1)


DISTANCES: dict[str, Distance] = {"mse": squared, "cosine": cosine}


def of_rows(student: Tensor, teacher: Tensor, distance: Distance) -> Tensor:
    """Sum over the positions of [N, E]."""
    return distance(student.float(), teacher.float()).sum()


def of_pages(
    student: Mapping[int, Tensor],
    shown: Sequence[Shown],
    teacher: Mapping[int, Tensor],
    shown_to_teacher: Sequence[Shown],
    distance: Distance,
) -> Tensor:
    """Sum over pages of the mean distance of the vision tokens of their overviews. student, teacher: tokens [V, F * F, E] of each
    stack of views, by the pixels of these; the teacher's are averaged over the regions that the student's tokens cover.

    Tiles are left out: two modes cut the same page differently.
    """
    total = torch.stack([stack.float().sum() for stack in student.values()]).sum() * 0.0  # gradients also without pages
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for own, other in zip(shown, shown_to_teacher, strict=True):
        pairs.setdefault((own.overview[0], other.overview[0]), []).append((own.overview[1], other.overview[1]))
    for (size, other_size), numbers in pairs.items():
        mine, others = (list(column) for column in zip(*numbers))
        tokens, wanted = student[size][mine].float(), teacher[other_size][others].float()
        total = total + distance(tokens, pooled(wanted, side_of(tokens))).mean(1).sum()
    return total


def pooled(tokens: Tensor, side: int) -> Tensor:
    """[P, F * F, E] -> [P, side * side, E]: means over regions, as even as can be."""
    square = tokens.unflatten(1, (side_of(tokens), -1)).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(square, side).flatten(2).transpose(1, 2)


def side_of(tokens: Tensor) -> int:
    """F of [V, F * F, E]."""
    return round(tokens.shape[1] ** 0.5)
