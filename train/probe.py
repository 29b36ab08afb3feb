"""The quick look at held-out pages: next-token accuracy, cross-entropy, and `image_gain`. No generation.

image_gain = cross-entropy with another page's picture - cross-entropy with the right one, in nats a token. It
is what tells reading from guessing: a loss can fall from 4.7 to 1.8 while this stays at exactly zero, the
model having become a language model that never looks up.

Shapes: B rows, L positions, V views.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region
from torch import Tensor

from data_pipeline.batch import NO_LOSS, Collator, MicroBatch
from data_pipeline.reader import records
from data_pipeline.record import Record
from train.generation import evaluating
from train.model.optical import OpticalModel


@dataclass(frozen=True)
class Sums:
    """Sums over tokens, as a vector so that ranks can add theirs. `right_paired` counts batches that could be
    shuffled.
    """

    vector: Tensor  # float64 [7]: tokens, correct, right, paired tokens, right_paired, shuffled, blank

    @classmethod
    def of(cls, parts: Sequence[Tensor], device: torch.device) -> "Sums":
        """The sum over micro-batches (none at all is zero)."""
        return cls(
            torch.stack(list(parts)).sum(0) if parts else torch.zeros(7, dtype=torch.float64, device=device)
        )

    def over_data_ranks(self) -> "Sums":
        """Added up over the data-parallel ranks; all of them must call it."""
        total = self.vector.clone()
        dist.all_reduce(total, group=parallel_state.get_data_parallel_group())
        return Sums(total)

    def means(self, with_blank: bool) -> dict[str, float]:
        """accuracy (0..1), cross_entropy, cross_entropy_shuffled, image_gain (nats a token), and for blank
        pages if asked.

        What has no tokens (shuffling needs two pages) is nan.
        """
        tokens, correct, right, paired, right_paired, shuffled, blank = self.vector.tolist()
        found = {
            "accuracy": _ratio(correct, tokens),
            "cross_entropy": _ratio(right, tokens),
            "cross_entropy_shuffled": _ratio(shuffled, paired),
            "image_gain": _ratio(shuffled - right_paired, paired),
        }
        return found | ({"cross_entropy_blank": _ratio(blank, tokens)} if with_blank else {})


class Probe:
    """Looks at the same few held-out pages of every source whenever it is called; each data-parallel rank at
    its share.

    Every rank does the same number of forward passes, as experts may be spread over ranks.
    """

    def __init__(
        self,
        model: OpticalModel,
        held_out: Mapping[str, Path],
        collator: Collator,
        pages: int,
        batch_size: int,
    ) -> None:
        rank, world = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        self.model = model
        self.batches = {
            source: collate(share(list(records(folder, pages)), rank, world), source, collator, batch_size)
            for source, folder in held_out.items()
        }

    def __call__(self) -> dict[str, dict[str, float]]:
        """Source -> accuracy, cross_entropy, cross_entropy_shuffled, image_gain; the same on every rank."""
        return probe(self.model, self.batches)


def probe(
    model: OpticalModel, batches: Mapping[str, Sequence[MicroBatch]], with_blank: bool = False
) -> dict[str, dict[str, float]]:
    """Source -> the means of `Sums.means` over the batches of all data-parallel ranks."""
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        sums = {
            source: Sums.of([score(model, batch.to(device), with_blank) for batch in own], device)
            for source, own in batches.items()
        }
    return {source: own.over_data_ranks().means(with_blank) for source, own in sums.items()}


def share(items: list[Record], rank: int, world: int) -> list[Record]:
    """This rank's items, equally many on each: a remainder is left out; with fewer items than ranks all take
    all.
    """
    each = len(items) // world
    return items[rank * each : (rank + 1) * each] if each else items


def collate(items: Sequence[Record], source: str, collator: Collator, batch_size: int) -> list[MicroBatch]:
    """Micro-batches of nearly equal size, so that none is left with a single page, which could not be
    shuffled.
    """
    count = -(-len(items) // max(batch_size, 2))
    cuts = [round(index * len(items) / count) for index in range(count + 1)] if count else [0]
    return [collator(items[first:last], [source] * (last - first)) for first, last in pairwise(cuts)]


def score(model: OpticalModel, batch: MicroBatch, with_blank: bool) -> Tensor:
    """The vector of `Sums` for one micro-batch on the model's device."""
    tokens = (batch.labels != NO_LOSS).sum().double()
    logits = gather_from_tensor_model_parallel_region(model(batch).logits)
    correct = ((logits.argmax(-1) == batch.labels) & (batch.labels != NO_LOSS)).sum().double()
    right, zero = _nats(logits, batch.labels), torch.zeros_like(tokens)
    paired = right_paired = shuffled = blank = zero
    if int((batch.view_of >= 0).sum()) > 1:
        paired, right_paired, shuffled = (
            tokens,
            right,
            _loss(model, replace(batch, views=batch.views.roll(1, 0))),
        )
    if with_blank:
        blank = _loss(model, replace(batch, views=blank_views(batch.views)))
    return torch.stack([tokens, correct, right, paired, right_paired, shuffled, blank])


def blank_views(views: Tensor) -> Tensor:
    """Pages with nothing on them, uint8 [V, 3, S, S]: each in its background, its most usual grey (text
    covers less than half).
    """
    paper = views.flatten(1).median(dim=1).values
    return paper[:, None, None, None].expand_as(views)


def _loss(model: OpticalModel, batch: MicroBatch) -> Tensor:
    return _nats(gather_from_tensor_model_parallel_region(model(batch).logits), batch.labels)


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy, float64 scalar. logits [B, L, vocabulary], labels [B, L]."""
    return F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=NO_LOSS, reduction="sum"
    ).double()


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")
