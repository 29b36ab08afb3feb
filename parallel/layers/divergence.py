"""How far a student's next-token distribution is from a teacher's, with the gradient in the student's logits.

The vocabulary is shared out over tensor ranks and stays so: what ranks tell each other is a few numbers a position. With
`top_k` the teacher's likeliest tokens count one by one and all others as one, the rest, so that both sides stay proper
distributions; a teacher whose predictions were written to disk is of this form already.

Shapes: N positions of a block, T vocabulary of this tensor rank, E width of the teacher, K predictions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist

KINDS = ("forward_kl", "reverse_kl", "jsd")


class Predictions(NamedTuple):
    """The likeliest tokens of each position and their log-probabilities; the last of these is of all other tokens together."""

    ids: torch.Tensor  # int64 [N, K]
    logs: torch.Tensor  # [N, K + 1]

    def block(self, positions: slice) -> "Predictions":
        """Of some positions."""
        return Predictions(self.ids[positions], self.logs[positions])


class TeacherRows(NamedTuple):
    """A teacher that runs along: its last hidden states and its output matrix, from which logits are made block by block."""

    rows: torch.Tensor  # [N, E]
    weight: torch.Tensor  # [T, E]

    def block(self, positions: slice) -> torch.Tensor:
        """Logits [n, T] of some positions."""
        return torch.mm(self.rows[positions], self.weight.t())


@dataclass(frozen=True)
class Divergence:
    """kind: "forward_kl" KL(teacher ‖ student); "reverse_kl" KL(student ‖ teacher); "jsd", the generalised Jensen-Shannon
    divergence m KL(teacher ‖ M) + (1 - m) KL(student ‖ M) with M = m teacher + (1 - m) student, m = `mixture` (GKD, arXiv
    2306.13649).

    temperature: both distributions are those of logits / temperature, and the divergence is multiplied by temperature ** 2, so
    that its gradient keeps its size (Hinton et al., arXiv 1503.02531). top_k: tokens of the teacher that count one by one; 0:
    all.
    """

    kind: str = "forward_kl"
    temperature: float = 1.0
    mixture: float = 0.5
    top_k: int = 0

    def of_block(
        self, logits: torch.Tensor, teacher: torch.Tensor | Predictions, group: dist.ProcessGroup
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum over positions in nats, gradient in `logits`). logits [N, T] of the student, which stay as they are; teacher:
        its logits [N, T] on the same ranks, or predictions of this temperature. Ranks of `group` hold other tokens.
        """
        scaled = logits / self.temperature
        if isinstance(teacher, torch.Tensor):
            of_teacher, of_student = log_softmaxes([teacher.to(scaled.dtype) / self.temperature, scaled], group)
            if not self.top_k:
                value, gradient = self._of_all(of_teacher, of_student, group)
                return value * self.temperature**2, gradient.mul_(self.temperature)
            teacher = top_predictions(of_teacher, self.top_k, group)
        else:
            (of_student,) = log_softmaxes([scaled], group)
        value, gradient = self._of_buckets(teacher, of_student, group)
        return value * self.temperature**2, gradient.mul_(self.temperature)

    def _of_all(
        self, of_teacher: torch.Tensor, of_student: torch.Tensor, group: dist.ProcessGroup
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From the log-probabilities [N, T] of every token."""
        terms, pulls = self._terms(of_teacher, of_student)
        value, pull = summed(torch.stack([terms.sum(1), pulls.sum(1)]), group)
        return value.sum(), pulls.sub_(of_student.exp() * pull.unsqueeze(1))

    def _of_buckets(
        self, teacher: Predictions, of_student: torch.Tensor, group: dist.ProcessGroup
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From the teacher's predictions, each of which is a bucket and the rest another one."""
        own = _Own.of(teacher.ids, of_student.shape[1], group)
        student = of_student.exp()
        shares = summed(torch.cat([own.pick(student), own.rest(student)], 1), group)
        logs = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()
        terms, pulls = self._terms(teacher.logs.to(logs.dtype), logs)
        pull = pulls.sum(1, keepdim=True)
        # a bucket's pull is spread over its tokens as the student's probability is
        of_rest = (pulls[:, -1:] - logs[:, -1:].exp() * pull) / logs[:, -1:].exp()
        of_picked = pulls[:, :-1] - shares[:, :-1] * pull
        gradient = student * own.outside * of_rest
        return terms.sum(), gradient.scatter_add_(1, own.places, of_picked * own.here)

    def _terms(self, p_logs: torch.Tensor, q_logs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of teacher P and student Q: the terms of the divergence, and its derivatives in log Q; any multiple of Q may be added
        to those, which changes no gradient in logits, and is such that equal distributions have none at all.
        """
        p, q = p_logs.exp(), q_logs.exp()
        if self.kind == "forward_kl":
            return p * (p_logs - q_logs), q - p
        if self.kind == "reverse_kl":
            terms = q * (q_logs - p_logs)
            return terms, terms.clone()
        mean = torch.logaddexp(p_logs + math.log(self.mixture), q_logs + math.log1p(-self.mixture))
        pulls = (1 - self.mixture) * q * (q_logs - mean)
        return self.mixture * p * (p_logs - mean) + pulls, pulls


@dataclass(frozen=True)
class Teaching:
    """A teacher's part in the loss: `next_token` times the cross-entropy of the labels plus `weight` times the divergence from
    `source`, whose positions are those with a label, in the order of the rows."""

    divergence: Divergence
    source: TeacherRows | Predictions
    weight: float = 1.0
    next_token: float = 1.0

    def of_block(
        self, logits: torch.Tensor, positions: slice, group: dist.ProcessGroup
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`Divergence.of_block` for some positions, whose logits these are."""
        return self.divergence.of_block(logits, self.source.block(positions), group)


@dataclass(frozen=True)
class _Own:
    """Which of some ids [N, K] are of this rank's part of the vocabulary, and where."""

    places: torch.Tensor  # int64 [N, K]; 0 for others' ids
    here: torch.Tensor  # bool [N, K]
    outside: torch.Tensor  # bool [N, T]: tokens of this rank that are none of the ids

    @classmethod
    def of(cls, ids: torch.Tensor, size: int, group: dist.ProcessGroup) -> "_Own":
        own = ids - group.rank() * size
        here = (own >= 0) & (own < size)
        outside = torch.ones(len(ids), size + 1, dtype=torch.bool, device=ids.device)
        outside.scatter_(1, own.where(here, size), False)  # others' ids fall into the column that is cut off
        return cls(own.where(here, 0), here, outside[:, :size])

    def pick(self, values_NT: torch.Tensor) -> torch.Tensor:
        """[N, K]: of the ids, 0 for others'."""
        return values_NT.gather(1, self.places) * self.here

    def rest(self, values_NT: torch.Tensor) -> torch.Tensor:
        """[N, 1]: the sum of all but the ids."""
        return (values_NT * self.outside).sum(1, keepdim=True)


def top_predictions(logs_NT: torch.Tensor, count: int, group: dist.ProcessGroup) -> Predictions:
    """The `count` likeliest tokens, or as many as there are, from the log-probabilities of each rank's tokens; the same on all
    ranks."""
    size = logs_NT.shape[1]
    logs, ids = logs_NT.topk(min(count, size), 1)
    ids = ids + group.rank() * size
    if group.size() > 1:
        logs, ids = gathered(logs, group), gathered(ids, group)
        logs, best = logs.topk(min(count, logs.shape[1]), 1)
        ids = ids.gather(1, best)
    rest = summed(_Own.of(ids, size, group).rest(logs_NT.exp()), group)
    return Predictions(ids, torch.cat([logs, rest.clamp(min=torch.finfo(rest.dtype).tiny).log()], 1))


def log_softmaxes(several: Sequence[torch.Tensor], group: dist.ProcessGroup) -> list[torch.Tensor]:
    """Log-probabilities from logits [N, T] whose rows go on on the other ranks of `group`; two messages for all of them."""
    peaks = torch.stack([logits.amax(1) for logits in several])
    if group.size() > 1:
        dist.all_reduce(peaks, op=dist.ReduceOp.MAX, group=group)
    shifted = [logits - peak.unsqueeze(1) for logits, peak in zip(several, peaks)]
    totals = summed(torch.stack([logits.exp().sum(1) for logits in shifted]), group)
    return [logits.sub_(total.log().unsqueeze(1)) for logits, total in zip(shifted, totals)]


def summed(values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """`values` added up over ranks, in place."""
    if group.size() > 1:
        dist.all_reduce(values, group=group)
    return values


def gathered(values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """[N, K] of each rank -> [N, ranks * K]."""
    parts = [torch.empty_like(values) for _ in range(group.size())]
    dist.all_gather(parts, values.contiguous(), group=group)
    return torch.cat(parts, 1)
