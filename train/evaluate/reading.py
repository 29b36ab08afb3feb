"""Reads the pages of an evaluation: each rank its share, a batch at a time, nothing twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch.distributed as dist
from megatron.core import parallel_state

from data_pipeline.batch import BatchSpec
from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer
from train.evaluate.journal import Journal
from train.evaluate.pages import PageToRead
from train.generate.decoding import Reading, read
from train.generate.options import Decoding
from train.model.optical import OpticalModel

Result = Reading | str  # what was read, or why the page could not be


@dataclass(frozen=True)
class PageReader:
    """What turns pages into text here; `progress` gets the number of pages just done, on all ranks together."""

    model: OpticalModel
    tokenizer: Tokenizer
    spec: BatchSpec
    decoding: Decoding
    batch_size: int
    journal: Journal
    progress: Callable[[int], object]

    def __call__(self, pages: Sequence[PageToRead], mode: str, limit: int) -> list[Result]:
        """What is read from `pages` in `mode`, in order, at most `limit` tokens each; the same on every rank, which
        all call this together.
        """
        rank, world = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        before = {index: self.journal.get(page, mode, limit) for index, page in enumerate(pages)}
        found: dict[int, Result] = {
            index: reading for index, reading in before.items() if reading is not None
        }
        self.progress(len(found))
        missing = [index for index in range(len(pages)) if index not in found]
        own = missing[rank::world]
        mine: dict[int, Result] = {}
        for prompt in dict.fromkeys(pages[index].prompt for index in own):
            alike = [index for index in own if pages[index].prompt == prompt]
            for start in range(0, len(alike), self.batch_size):
                chunk = alike[start : start + self.batch_size]
                mine |= dict(
                    zip(chunk, self._batch([pages[index] for index in chunk], mode, limit), strict=True)
                )
                self.progress(min(len(chunk) * world, len(missing)))
        parts: list[dict[int, Result]] = [{} for _ in range(world)]
        dist.all_gather_object(parts, mine, group=parallel_state.get_data_parallel_group())
        for part in parts:
            found |= part
        results = [found[index] for index in range(len(pages))]
        for page, result in zip(pages, results, strict=True):
            if isinstance(result, Reading):
                self.journal.use(page, result, mode, limit)
        return results

    def _batch(self, pages: Sequence[PageToRead], mode: str, limit: int) -> list[Result]:
        pictures: dict[int, np.ndarray] = {}
        results: dict[int, Result] = {}
        for place, page in enumerate(pages):
            try:
                pictures[place] = page.picture()
            except (UserError, OSError, ValueError) as error:
                results[place] = str(error)
        good = [pages[place] for place in pictures]
        if good:
            # A model that compresses texts in place of pictures of them is given what the pages say.
            texts: dict[str, Any] = {"texts": [page.reference for page in good]} if self.spec.texts else {}
            readings = read(
                self.model, self.tokenizer, list(pictures.values()), good[0].prompt, replace(self.spec, modes=(mode,)),
                replace(self.decoding, max_new_tokens=limit), self.batch_size, **texts,
            )  # fmt: skip
            self.journal.add(zip(good, readings, strict=True), mode, limit)
            results |= dict(zip(pictures, readings, strict=True))
        return [results[place] for place in range(len(pages))]


def blank_of(page: PageToRead) -> PageToRead:
    """A page of the same size and prompt with nothing on it: all in the page's most usual value."""
    return replace(
        page, key="(blank)", reference="", kind="blank", identity=f"blank of {page.key} {page.identity}",
        picture=lambda: blank_page(page.picture()), page=None,
    )  # fmt: skip


def blank_page(page: np.ndarray) -> np.ndarray:
    """A page of the same size with nothing on it: all in its most usual value."""
    values, counts = np.unique(page, return_counts=True)
    return np.full_like(page, values[counts.argmax()])
