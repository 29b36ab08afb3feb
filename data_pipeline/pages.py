"""Page number n of a shard set, as a record: a pure function of (corpus, set, seed, n)."""

import hashlib
from collections import Counter

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.plan import ShardSet
from data_pipeline.record import Record
from data_pipeline.render.page import typeset
from data_pipeline.sources.random_words import random_words
from data_pipeline.workshop import Workshop

_ATTEMPTS = 20  # draws for one page before the build gives up


class PageMaker:
    """Makes the pages of one shard set."""

    def __init__(self, workshop: Workshop, shard_set: ShardSet, seed: int) -> None:
        self._workshop, self._set = workshop, shard_set
        self._key = int.from_bytes(
            hashlib.sha256(f"{seed}/{shard_set.folder}".encode()).digest()[:16], "little"
        )

    def make(self, number: int) -> tuple[Record, Counter[str]]:
        """Record of page `number`, and the reasons for which earlier draws of this page were refused.

        Each page has its own random stream (Philox, keyed by seed and set), so pages may be made in any order.
        Raises DataError when no draw of many gives a page.
        """
        refused: Counter[str] = Counter()
        for attempt in range(_ATTEMPTS):
            rng = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, attempt, number]))
            record, reason = self._draw(number, rng)
            if record is not None:
                return record, refused
            refused[reason] += 1
        reasons = ", ".join(f"{reason} ({count})" for reason, count in refused.most_common(3))
        raise DataError(
            f"{self._set.folder}, page {number}: {_ATTEMPTS} texts in a row were refused: {reasons}. Use smaller letters with "
            "corpus.page.font_px=, a larger corpus.page.size=, or other fonts"
        )

    def _draw(self, number: int, rng: np.random.Generator) -> tuple[Record | None, str]:
        """A record, or None and why the drawn text gives no page."""
        workshop, corpus, page = self._workshop, self._workshop.corpus, self._workshop.corpus.page
        if rng.random() < self._set.random_text:
            document = random_words(rng, self._set.budget)
            text = document.text
        else:
            document, text = workshop.passages(self._set.split).draw(rng, self._set.budget)
        choices = workshop.choices(document)
        if not choices:  # the documents have fonts: these are random words
            return None, "no font for random words"
        family = choices[int(rng.integers(len(choices)))]
        right, down = (int(value) for value in rng.integers(page.jitter + 1, size=2))
        style = workshop.style(family, self._font_px(family), document.language, (right, down))
        result = typeset(text, style, workshop.engine, page.cell)
        if result.missing:
            return None, f"no glyph: {document.script} U+{result.missing[0]:04X}"
        if not result.text:
            return None, "no line fits the page"
        record = Record(
            key=f"{self._set.split}-{self._set.name}-{number:08d}",
            kind="text",
            prompt=corpus.prompt,
            target=result.text,
            language=document.language,
            script=document.script,
            source=document.source,
            license=document.license,
            seed=number,
            boxes=result.boxes,
            pages=(result.image,),
            glyphs=result.glyphs,
            glyph_cell=page.cell,
        )
        return record, ""

    def _font_px(self, family: str) -> float:
        """Size of a family; of several together, the smallest of theirs."""
        sizes = [size for name, size in self._set.font_px.items() if name in family.split(", ")]
        return min(sizes, default=self._workshop.corpus.page.font_px)
