"""How well a model reads held-out pages, at each compression ratio, beside what it would score without
reading.

Precision comes from free greedy generation; the cross-entropies from the true text (`train.probe`). The
floors:

    shuffled     page i's text against what was generated from page i + 1 of the same source. Generation depends on the
                 page alone, so this is exactly the score with wrong pages, at no further cost.
    blank        against what is generated from an empty page: what the language model says unprompted.
    random text  pages of words or signs drawn by lot, right page: nothing to guess, so it shows what is really read off the page.

Ranks share the pages. Checkpoints do not depend on the layout, so evaluation needs data parallelism only.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from megatron.core import parallel_state

from data_pipeline.batch import BatchSpec, Collator
from data_pipeline.errors import UserError
from data_pipeline.reader import records
from data_pipeline.record import Record
from data_pipeline.resolution import vision_tokens
from data_pipeline.tokenizer import Tokenizer, reference_tokenizer
from train.evaluate.metrics import bootstrap_mean, precision, word_precision
from train.evaluate.samples import SAMPLE_CHOICE, Sample, choose_samples
from train.generate.decoding import Reading, read
from train.model.optical import OpticalModel
from train.probe import collate, probe, share


@dataclass(frozen=True)
class Evaluation:
    """curve: one row a held-out source (evaluation.json's `curve`); the same on every rank."""

    curve: list[dict[str, Any]]
    samples: list[Sample]
    seconds: float

    @property
    def image_gain(self) -> float:
        """Of the source with the least text per vision token, in nats a token, as the training log has it."""
        return float(min(self.curve, key=lambda row: row["bytes_per_vision_token"])["image_gain"])

    @property
    def sample_choice(self) -> str:
        """In words, how the samples were chosen."""
        return SAMPLE_CHOICE.format(pages=max(row["pages"] for row in self.curve))


@dataclass(frozen=True)
class _Reader:
    """What turns pages into text here: model, tokenizer, sizes."""

    model: OpticalModel
    tokenizer: Tokenizer
    spec: BatchSpec
    batch_size: int

    def read(self, items: Sequence[Record], limit: int) -> list[Reading]:
        """What is read from the pages of `items`, in order, each rank reading its share; at most `limit`
        tokens a page.
        """
        rank, world = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        own = list(range(rank, len(items), world))
        found: dict[int, Reading] = {}
        for prompt in dict.fromkeys(items[index].prompt for index in own):
            chosen = [index for index in own if items[index].prompt == prompt]
            pages = [items[index].pages[0] for index in chosen]
            texts = read(self.model, self.tokenizer, pages, prompt, self.spec, limit, self.batch_size)
            found |= dict(zip(chosen, texts, strict=True))
        parts: list[dict[int, Reading]] = [{} for _ in range(world)]
        dist.all_gather_object(parts, found, group=parallel_state.get_data_parallel_group())
        merged = {index: reading for part in parts for index, reading in part.items()}
        return [merged[index] for index in range(len(items))]

    def limit(self, items: Sequence[Record]) -> int:
        """Tokens to generate at most: one bound for all pages of a source, a quarter above the longest text."""
        return math.ceil(1.25 * max(len(self.tokenizer.encode(item.target)) for item in items)) + 8


def evaluate(
    model: OpticalModel,
    tokenizer: Tokenizer,
    held_out: Mapping[str, Path],
    floor: Mapping[str, Path],
    spec: BatchSpec,
    pages: int,
    batch_size: int,
    seed: int = 0,
    say: Callable[[str], object] | None = None,
) -> Evaluation:
    """Measure every source of `held_out` on its first `pages` pages; `floor` holds random text under the same
    names.

    `seed` is that of the bootstrap. All ranks call it together. Raises UserError for a layout with more than
    data parallelism, and for a source without pages.
    """
    _require_data_parallel_only()
    reader = _Reader(model, tokenizer, spec, batch_size)
    reference, began = reference_tokenizer(), time.monotonic()
    curve: list[dict[str, Any]] = []
    samples: list[Sample] = []
    for source, folder in held_out.items():
        items = _pages(folder, pages, source)
        limit = reader.limit(items)
        readings = reader.read(items, limit)
        row = _identity(source, items, reader, reference) | _scores(items, readings, seed)
        row |= _floors(items, readings, reader, limit, seed)
        samples += choose_samples(source, items, readings, ("best", "median", "worst"), random=False)
        if source in floor:
            lots = _pages(floor[source], pages, source)
            read_lots = reader.read(lots, reader.limit(lots))
            row |= _random(lots, read_lots, seed)
            samples += choose_samples(floor[source].name, lots, read_lots, ("median",), random=True)
        row |= _cross_entropies(source, items, reader)
        curve.append(row)
        if say:
            say(
                f"{source}: precision {row['precision']:.1%}, image gain {row['image_gain']:.2f} nats, {len(items)} pages"
            )
    return Evaluation(curve, samples, time.monotonic() - began)


def _pages(folder: Path, limit: int, source: str) -> list[Record]:
    items = [item for item in records(folder, limit) if len(item.pages) == 1]
    if not items:
        raise UserError(
            f"{folder} (source {source}) holds no sample with one page in its first {limit}: nothing to read"
        )
    return items


def _identity(
    source: str, items: Sequence[Record], reader: _Reader, reference: Tokenizer | None
) -> dict[str, Any]:
    """What the source is: how much text on how many vision tokens, in our tokens, in bytes, in the
    reference's tokens.
    """
    vision = vision_tokens(reader.spec.image_size, reader.spec.patch)
    text_tokens = float(np.mean([len(reader.tokenizer.encode(item.target)) for item in items]))
    text_bytes = float(np.mean([len(item.target.encode()) for item in items]))
    row = {
        "source": source,
        "pages": len(items),
        "vision_tokens": vision,
        "text_tokens": text_tokens,
        "compression": text_tokens / vision,
        "text_bytes": text_bytes,
        "bytes_per_vision_token": text_bytes / vision,
    }
    if reference is not None:
        tokens = float(np.mean([len(reference.encode(item.target)) for item in items]))
        row |= {"reference_tokens": tokens, "reference_compression": tokens / vision}
    return row


def _scores(items: Sequence[Record], readings: Sequence[Reading], seed: int) -> dict[str, Any]:
    pairs = [(item.target, reading.text) for item, reading in zip(items, readings, strict=True)]
    exact = bootstrap_mean([precision(*pair) for pair in pairs], seed=seed)
    words = bootstrap_mean([word_precision(*pair) for pair in pairs], seed=seed)
    return {
        "precision": exact.mean,
        "precision_interval": exact.bounds(),
        "word_precision": words.mean,
        "word_precision_interval": words.bounds(),
        "finished": float(np.mean([reading.finished for reading in readings])),
    }


def _floors(
    items: Sequence[Record], readings: Sequence[Reading], reader: _Reader, limit: int, seed: int
) -> dict[str, Any]:
    """The scores with the next page of the source, and with an empty one."""
    texts = [item.target for item in items]
    row: dict[str, Any] = {"precision_shuffled": None, "precision_shuffled_interval": None}
    if len(items) > 1:
        wrong = [reading.text for reading in (*readings[1:], readings[0])]
        shuffled = bootstrap_mean([precision(*pair) for pair in zip(texts, wrong, strict=True)], seed=seed)
        row = {"precision_shuffled": shuffled.mean, "precision_shuffled_interval": shuffled.bounds()}
    empty = blank_page(items[0].pages[0])
    said = read(reader.model, reader.tokenizer, [empty], items[0].prompt, reader.spec, limit)[0].text
    blank = bootstrap_mean([precision(text, said) for text in texts], seed=seed)
    return row | {"precision_blank": blank.mean, "precision_blank_interval": blank.bounds()}


def _random(items: Sequence[Record], readings: Sequence[Reading], seed: int) -> dict[str, Any]:
    scores = _scores(items, readings, seed)
    return {
        "precision_random_text": scores["precision"],
        "precision_random_text_interval": scores["precision_interval"],
        "word_precision_random_text": scores["word_precision"],
        "random_text_pages": len(items),
    }


def _cross_entropies(source: str, items: Sequence[Record], reader: _Reader) -> dict[str, float]:
    rank, world = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
    collator = Collator(reader.tokenizer, reader.spec)
    batches = collate(share(list(items), rank, world), source, collator, reader.batch_size)
    return probe(reader.model, {source: batches}, with_blank=True)[source]


def blank_page(page: np.ndarray) -> np.ndarray:
    """A page of the same size with nothing on it: all in its most usual value."""
    values, counts = np.unique(page, return_counts=True)
    return np.full_like(page, values[counts.argmax()])


def _require_data_parallel_only() -> None:
    sizes = {
        "tensor": parallel_state.get_tensor_model_parallel_world_size(),
        "pipeline": parallel_state.get_pipeline_model_parallel_world_size(),
        "expert": parallel_state.get_expert_model_parallel_world_size(),
    }
    for name, size in sizes.items():
        if size > 1:
            raise UserError(
                f"parallel.{name}={size}: pages are read with data parallelism only; a checkpoint fits any layout, "
                f"so evaluate it with parallel.{name}=1"
            )
