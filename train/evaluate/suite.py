"""How well a model reads its pages: in each mode, at each length of text, beside what it would score without reading.

Precision comes from free greedy generation; the cross-entropies from the true text (`train.probe`). The floors:

    shuffled     page i's text against what was generated from page i + 1 of the same source. Generation depends on the
                 page alone, so this is exactly the score with wrong pages, at no further cost.
    blank        against what is generated from an empty page: what the language model says unprompted.
    random text  pages of words or signs drawn by lot, right page: nothing to guess, so it shows what is really read off the page.

Ranks share the pages. Checkpoints do not depend on the layout, so evaluation needs data parallelism only.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from megatron.core import parallel_state

from data_pipeline.batch import Collator
from data_pipeline.errors import UserError
from data_pipeline.resolution import grid_of, mode_of, positions
from train.evaluate.bins import binned, check_bins, edges_by_quantiles, outside
from train.evaluate.measure import Measure, Measured, groups, random_row, row_of
from train.evaluate.pages import PageToRead, Source
from train.evaluate.reading import PageReader, blank_of
from train.evaluate.samples import Sample, choose_samples, sample_choice
from train.generate.decoding import Reading
from train.probe import collate, probe

PROBED = 128  # pages of each source whose cross-entropies are taken: these need no intervals


@dataclass(frozen=True)
class Evaluation:
    """The rows of metrics.json; the same on every rank.

    curve: one row a source and mode. bins: one a bin of text tokens and mode. random_text: one a
    source of it and mode, as it makes more tokens than prose of its length. modes: one a mode, over all pages.
    languages, kinds, scripts: one a value and mode. pages: what all of them are made of. main: the mode of
    the samples and of image_gain. left_out: page → why it was not
    read.
    """

    curve: list[dict[str, Any]]
    bins: list[dict[str, Any]]
    edges: list[int]
    outside: int
    random_text: list[dict[str, Any]]
    modes: list[dict[str, Any]]
    languages: list[dict[str, Any]]
    scripts: list[dict[str, Any]]
    kinds: list[dict[str, Any]]
    samples: list[Sample]
    pages: list[Measured]
    main: str
    left_out: dict[str, str]
    seconds: float

    @property
    def image_gain(self) -> float | None:
        """Of the source with the least text per vision token, in nats a token, as the training log has it."""
        known = [row for row in self.curve if row["mode"] == self.main and row.get("image_gain") is not None]
        if not known:
            return None
        return float(min(known, key=lambda row: row["bytes_per_vision_token"])["image_gain"])

    @property
    def sample_choice(self) -> str:
        """In words, how the samples were chosen."""
        lots = any(sample.random for sample in self.samples)
        return sample_choice(max(row["pages"] for row in self.curve), lots)


@dataclass(frozen=True)
class _Round:
    """The pages of a source as they were measured in one mode, with those of its random text."""

    row: dict[str, Any]
    pages: list[Measured]
    lots: list[Measured]


@dataclass(frozen=True)
class Suite:
    """All measurements. limit: tokens generated for a page at most; None: a bound for all pages of a source, a quarter
    above its longest text. edges: of the bins; () leaves them to the data. seed: of the bootstrap.
    """

    reader: PageReader
    measure: Measure
    limit: int | None
    edges: Sequence[int]
    seed: int

    def __call__(
        self,
        sources: Sequence[Source],
        modes: Sequence[str],
        main: str,
        say: Callable[[str], object] | None = None,
    ) -> Evaluation:
        """Every source in every mode; `main` is the one of `modes` that samples are shown in. All ranks call it together. Raises UserError for a layout with more than data
        parallelism, for a source of which no page fits the model, and for bins without pages.
        """
        _require_data_parallel_only()
        began = time.monotonic()
        left_out = {f"{source.name}/{key}": why for source in sources for key, why in source.left_out.items()}
        sources = [self._fitting(source, modes, left_out) for source in sources]
        counts = [
            self.measure.vocabulary.count(page.reference) for source in sources for page in source.pages
        ]
        edges = list(self.edges) or edges_by_quantiles(counts)
        check_bins(counts, edges)
        rounds: list[_Round] = []
        samples: list[Sample] = []
        for mode in modes:
            for source in sources:
                found = self._round(source, mode, left_out)
                rounds.append(found)
                if mode == main:
                    samples += choose_samples(
                        source.name, found.pages, ("best", "median", "worst"), random=False
                    )
                    if found.lots:
                        samples += choose_samples(
                            found.lots[0].page.source, found.lots, ("median",), random=True
                        )
                if say:
                    say(_told(found.row, len(modes) > 1))
        pages = [page for found in rounds for page in found.pages]
        lots = [page for found in rounds for page in found.lots]
        return Evaluation(
            curve=[found.row for found in rounds],
            bins=binned(pages, edges, self.seed),
            edges=edges,
            outside=outside(pages, edges),
            random_text=[
                {"source": found.lots[0].page.source, "mode": found.lots[0].mode}
                | row_of(found.lots, self.seed)
                for found in rounds
                if found.lots
            ],
            modes=self._modes(pages, lots, modes),
            languages=groups(pages, lambda page: page.page.language, "language", self.seed),
            scripts=groups(pages, lambda page: page.page.script, "script", self.seed),
            kinds=groups(pages, lambda page: page.page.kind, "kind", self.seed),
            samples=samples,
            pages=pages,
            main=main,
            left_out=left_out,
            seconds=time.monotonic() - began,
        )

    def _modes(
        self, pages: Sequence[Measured], lots: Sequence[Measured], modes: Sequence[str]
    ) -> list[dict[str, Any]]:
        rows = []
        for mode in modes:
            own, random = ([page for page in every if page.mode == mode] for every in (pages, lots))
            rows.append({"mode": mode} | row_of(own, self.seed) | random_row(random, self.seed))
        return rows

    def _round(self, source: Source, mode: str, left_out: dict[str, str]) -> _Round:
        limit = self._limit(source.pages)
        blank = self.reader([blank_of(source.pages[0])], mode, limit)[0]
        said = blank.text if isinstance(blank, Reading) else None
        pages = self._read(source.pages, mode, limit, left_out, said)
        lots = self._read(source.lots, mode, self._limit(source.lots), left_out, None) if source.lots else []
        row = {"source": source.name, "mode": mode} | row_of(pages, self.seed) | random_row(lots, self.seed)
        if self.measure.vocabulary.reference:
            row["reference_compression"] = row["compression"]  # in the paper's tokens
        row |= self._cross_entropies(source.name, [page.page for page in pages], mode)
        return _Round(row, pages, lots)

    def _read(
        self, pages: Sequence[PageToRead], mode: str, limit: int, left_out: dict[str, str], blank: str | None
    ) -> list[Measured]:
        """The pages that could be read, measured; those that could not go to `left_out`."""
        results = self.reader(pages, mode, limit)
        good = [
            (page, result) for page, result in zip(pages, results, strict=True) if isinstance(result, Reading)
        ]
        for page, result in zip(pages, results, strict=True):
            if not isinstance(result, Reading):
                left_out[f"{page.source}/{page.key}"] = result
        if not good:
            raise UserError(f"no page of {pages[0].source} could be read; the first one: {results[0]}")
        return self.measure([page for page, _ in good], [result for _, result in good], mode, blank)

    def _limit(self, pages: Sequence[PageToRead]) -> int:
        if self.limit is not None:
            return self.limit
        tokenizer = self.reader.tokenizer
        return math.ceil(1.25 * max(len(tokenizer.encode(page.reference)) for page in pages)) + 8

    def _fitting(self, source: Source, modes: Sequence[str], left_out: dict[str, str]) -> Source:
        """The source without the pages that take more positions than the model has, in any of the modes: the same
        pages are read in all of them.
        """
        spec, good = self.reader.spec, []
        for page in source.pages:
            prompt = len(self.reader.tokenizer.encode(page.prompt)) + 1
            taken = max(_positions(page, mode, spec.patch) for mode in modes) + prompt
            if taken < spec.max_length:
                good.append(page)
            else:
                left_out[f"{source.name}/{page.key}"] = (
                    f"page and prompt take {taken} of the model's {spec.max_length} positions"
                )
        if not good:
            reasons = (
                left_out[f"{source.name}/{source.pages[0].key}"]
                if source.pages
                else "no picture can be opened"
            )
            raise UserError(
                f"source {source.name}: none of its pages can be read in modes={list(modes)}: {reasons}. "
                "Choose a smaller mode, or other pages"
            )
        return replace(source, pages=good)

    def _cross_entropies(self, source: str, pages: Sequence[PageToRead], mode: str) -> dict[str, Any]:
        """Of the first pages, as far as page and text fit the model; {} where none does."""
        spec, tokenizer = replace(self.reader.spec, modes=(mode,)), self.reader.tokenizer
        fitting = [
            page
            for page in pages[:PROBED]
            if _positions(page, mode, spec.patch) + len(tokenizer.encode(page.prompt + page.reference)) + 2
            <= spec.max_length
        ]
        if not fitting:
            return {}
        rank, world = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        each = (
            len(fitting) // world
        )  # equally many on each rank, as every rank does the same number of forward passes
        own = fitting[rank * each : (rank + 1) * each] if each else fitting
        records = [page.record(number) for number, page in enumerate(own)]
        batches = collate(records, source, Collator(tokenizer, spec), self.reader.batch_size)
        found = probe(self.reader.model, {source: batches}, with_blank=True)[source]
        return {**found, "cross_entropy_pages": each * world or len(fitting)}


def _positions(page: PageToRead, mode: str, patch: int) -> int:
    parsed = mode_of(mode)
    return positions(parsed, patch, grid_of(page.width, page.height, parsed))


def _told(row: dict[str, Any], several: bool) -> str:
    mode = f", mode {row['mode']}" if several else ""
    gain = row.get("image_gain")
    seen = "" if gain is None else f", image gain {gain:.2f} nats"
    return f"{row['source']}{mode}: precision {row['precision']:.1%}{seen}, {row['pages']} pages"


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
