"""Which id comes next in a row: the likeliest or a draw, without ids that the row may not repeat.

A row is a function of its logits, its settings and its key: nothing here looks at the rows beside it.
"""

import random
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from train.generate.options import Decoding, NoRepeat


class Row:
    """One text as it is written. `prompt`: the ids before it; `written`: its own, the end-of-text id included.

    limit: most ids that it may have. vocabulary: ids from there on are padding of the output layer, which no text has.
    """

    def __init__(
        self, prompt: list[int], limit: int, decoding: Decoding, vocabulary: int, eos: int, key: str
    ) -> None:
        self.prompt, self.limit, self.vocabulary, self.eos = prompt, limit, vocabulary, eos
        self.written: list[int] = []
        self.ended = limit < 1
        self.decoding = decoding
        self.repeats = Repeats(decoding.no_repeat) if decoding.no_repeat else None
        self.stream = random.Random(f"{decoding.seed} {key}")

    def accept(self, proposed: Sequence[int], logits_QT: Tensor, likeliest: Sequence[int]) -> list[int]:
        """Writes what follows: every proposed id that is the one chosen there, then the one chosen after them.

        logits_QT: after the last id written and after each proposed one (more are ignored); likeliest: the largest of
        each, among the vocabulary. With a temperature, too, the text is distributed as without proposals, and is the
        same: an id is drawn before it is compared, with the next number of the row's stream.
        """
        new: list[int] = []
        for place in range(len(proposed) + 1):
            token = self._choose(logits_QT[place], likeliest[place])
            new.append(token)
            self.written.append(token)
            if self.repeats:
                self.repeats.add(token)
            self.ended = token == self.eos or len(self.written) == self.limit
            if self.ended or place == len(proposed) or token != proposed[place]:
                break
        return new

    def _choose(self, logits_T: Tensor, likeliest: int) -> int:
        refused = self.repeats.refused() if self.repeats else set()
        if not self.decoding.temperature and likeliest not in refused:
            return likeliest
        logits = logits_T[: self.vocabulary].float()
        if refused:
            logits = logits.index_fill(0, torch.tensor(sorted(refused), device=logits.device), float("-inf"))
        if not self.decoding.temperature:
            return int(logits.argmax())
        probabilities = distribution(logits, self.decoding.temperature, self.decoding.top_p)
        return draw(probabilities, self.stream.random())


class Repeats:
    """Which ids a row may not write next: those that would write `size` ids in a row a second time.

    The prefix is the last size - 1 ids; looked through are the runs of `size` ids that lie within the last `window`
    ids. Source: NoRepeatNGramLogitsProcessor of the DeepSeek-OCR release. What it looks through at every step is kept
    in a table here, so that a window of a whole text costs no more than a short one.
    """

    def __init__(self, rule: NoRepeat) -> None:
        self.rule = rule
        self.ids: list[int] = []
        self.starts: dict[tuple[int, ...], list[int]] = defaultdict(list)  # of runs, by all but their last id

    def add(self, token: int) -> None:
        """Takes note of the next id of the row."""
        self.ids.append(token)
        start = len(self.ids) - self.rule.size
        if start >= 0:
            self.starts[tuple(self.ids[start:-1])].append(start)

    def refused(self) -> set[int]:
        """Ids that may not come next."""
        size, oldest = self.rule.size, len(self.ids) - self.rule.window
        found: set[int] = set()
        for start in reversed(self.starts.get(tuple(self.ids[1 - size :]), ())):
            if start < oldest:
                break
            found.add(self.ids[start + size - 1])
        return found - self.rule.allowed


def distribution(logits_T: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities [T] after temperature and top-p: of the likeliest ids, as few as have `top_p` together."""
    probabilities = (logits_T / temperature).softmax(-1)
    if top_p == 1.0:
        return probabilities
    ordered, ids = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.zeros_like(probabilities).scatter_(0, ids, ordered * (before < top_p))
    return kept / kept.sum()


def draw(probabilities_T: Tensor, number: float) -> int:
    """The id at `number`, in [0, 1), of the ids laid end to end with their probabilities as lengths."""
    ends = probabilities_T.double().cumsum(-1)
    place = torch.searchsorted(ends, ends[-1] * number, right=True)
    return min(int(place), int(probabilities_T.nonzero()[-1]))
