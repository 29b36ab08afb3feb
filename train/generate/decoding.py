"""Pages to text: a batch of pages is read once, then ids are chosen row by row until each text has ended.

Greedy without any rule by default: what the model itself would write, so that a figure made from it needs no footnote.
A row ends at the end-of-text id; a model that never says it is cut at the limit.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from data_pipeline.batch import BatchSpec, MicroBatch, prompt_batch
from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer
from parallel.pipeline import evaluating
from train.generate.decoder import TextDecoder
from train.generate.options import Decoding, NoRepeat
from train.generate.sampling import Row
from train.generate.speculative import MOST, Draft, Lookup, Nothing, Proposer, filled
from train.model.deepencoder import Vision
from train.model.optical import OpticalModel

__all__ = ["Decoding", "NoRepeat", "Reading", "decode", "key_of", "read"]

PIXELS = 2**18  # of pages that are encoded together on a CPU


@dataclass(frozen=True)
class Reading:
    """What was read from one page. finished: the model ended the text itself; tokens: generated, the end
    included.
    """

    text: str
    finished: bool
    tokens: int


def read(
    model: OpticalModel,
    tokenizer: Tokenizer,
    pages: Sequence[np.ndarray],
    prompt: str,
    spec: BatchSpec,
    decoding: Decoding,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
    draft: OpticalModel | None = None,
    texts: Sequence[str] = (),
) -> list[Reading]:
    """The text of each page. pages: uint8 [height, width] or [height, width, 3]; `progress` gets the pages just done.
    texts: what the pages say, for a model that is given texts in their place (`spec.texts`).

    A row is cut at `decoding.max_new_tokens`, or where page, prompt and text reach `spec.max_length`, what the model
    was made for. A reading depends on page, prompt and `decoding`, not on the pages beside it. DataError when page and
    prompt do not fit; otherwise as `decode`.
    """
    readings: list[Reading] = []
    device = next(model.parameters()).device
    for start in range(0, len(pages), batch_size):
        some = pages[start : start + batch_size]
        said = texts[start : start + batch_size]
        batch = prompt_batch(some, prompt, tokenizer, spec, said).to(device)
        batch = replace(batch, keys=[key_of(page) for page in some])
        rows: list[list[int]] = [[] for _ in some]
        for new in _decoded(model, batch, tokenizer, decoding, draft, spec.max_length):
            for ids, more in zip(rows, new, strict=True):
                ids += more
        readings += [_reading(ids, tokenizer) for ids in rows]
        if progress:
            progress(len(rows))
    return readings


def decode(
    model: OpticalModel,
    batch: MicroBatch,
    tokenizer: Tokenizer,
    decoding: Decoding,
    draft: OpticalModel | None = None,
) -> Iterator[list[list[int]]]:
    """The ids of every row since the last time, the end-of-text id included; [] for rows that have ended.

    batch: rows that end after their prompts (`prompt_batch`); with a temperature, `batch.keys` tell their streams apart.
    draft: a smaller model with the same tokenizer that reads the same views, for `decoding.speculate` "draft". Models
    are in evaluation mode while this runs. All tensor ranks call it together and get the same. Raises UserError for a
    draft that is missing or does not fit, or a model that is not whole here.
    """
    return _decoded(model, batch, tokenizer, decoding, draft, model.decoder.max_sequence_length)


def key_of(page: np.ndarray) -> str:
    """A row's key that depends on nothing but its page."""
    return str(zlib.crc32(page.tobytes()))


def _decoded(
    model: OpticalModel,
    batch: MicroBatch,
    tokenizer: Tokenizer,
    decoding: Decoding,
    draft: OpticalModel | None,
    max_length: int,
) -> Iterator[list[list[int]]]:
    """`decode`, each row ending where it has `max_length` positions."""
    if (draft is None) == (decoding.speculate == "draft"):
        raise UserError(
            f"speculate={decoding.speculate}: a draft model is needed for speculate=draft, and for nothing else"
        )
    rows = _rows(batch, tokenizer, decoding, max_length)
    with evaluating(model):
        if draft is None:
            yield from _written(_Batch(model, batch, rows, decoding))
            return
        with evaluating(draft):
            text = _Batch(model, batch, rows, decoding)
            text.proposer = _draft(draft, model, batch, tokenizer, text, decoding)
            yield from _written(text)


def _written(text: "_Batch") -> Iterator[list[list[int]]]:
    """New ids of all rows, until each has ended."""
    rows = text.rows
    while any(not row.ended for row in rows):
        before = [len(row.written) for row in rows]
        text.choose()
        yield [row.written[start:] for row, start in zip(rows, before, strict=True)]
        if any(not row.ended for row in rows):
            text.advance()


class _Batch:
    """Rows that are being written, the caches that hold them, and the logits of what comes next in each."""

    def __init__(self, model: OpticalModel, batch: MicroBatch, rows: list[Row], decoding: Decoding) -> None:
        self.rows = rows
        self.lengths = [len(row.prompt) for row in rows]
        self.room = max(len(row.prompt) + row.limit for row in rows) + MOST
        self.decoder = TextDecoder(model, self.room)
        self.cache = self.decoder.cache(len(rows), decoding.cache)
        self.logits = self.decoder.prefill(embedded(model, batch), self.lengths, self.cache)
        self.proposed: list[list[int]] = [[] for _ in rows]
        self.proposer: Proposer = Lookup(rows) if decoding.speculate == "lookup" else Nothing()

    def choose(self) -> None:
        """Writes what the logits say: of each row the proposed ids that are right, and one more."""
        likeliest_BQ = self.logits[..., : self.rows[0].vocabulary].argmax(-1).tolist()
        for row, proposed, logits_QT, likeliest in zip(
            self.rows, self.proposed, self.logits, likeliest_BQ, strict=True
        ):
            if not row.ended:
                row.accept(proposed, logits_QT, likeliest)

    def advance(self) -> None:
        """Reads what was written last, and what is proposed after it. Rows that have ended are dropped as soon as they
        are half of all.
        """
        # The last id of a row has been written but not read.
        self.cache.truncate([len(row.prompt) + max(len(row.written) - 1, 0) for row in self.rows])
        going = [number for number, row in enumerate(self.rows) if not row.ended]
        if 2 * len(going) <= len(self.rows):
            self.cache.keep(going)
            self.proposer.keep(going)
            self.rows = [self.rows[number] for number in going]
        self.proposed = self.proposer.propose(self.rows)
        fed = [[*row.written[-1:], *ids] for row, ids in zip(self.rows, self.proposed, strict=True)]
        self.logits = self.decoder.step(filled(fed, self.logits.device), self.cache)


def _rows(batch: MicroBatch, tokenizer: Tokenizer, decoding: Decoding, max_length: int) -> list[Row]:
    lengths = (~batch.padding).sum(1).tolist()
    prompts = [ids[:length] for ids, length in zip(batch.tokens.tolist(), lengths, strict=True)]
    return [
        Row(
            prompt,
            min(decoding.max_new_tokens, max_length - len(prompt)),
            decoding,
            tokenizer.vocab_size,
            tokenizer.eos,
            key,
        )
        for prompt, key in zip(prompts, batch.keys, strict=True)
    ]


def _draft(
    model: OpticalModel,
    reader: OpticalModel,
    batch: MicroBatch,
    tokenizer: Tokenizer,
    text: _Batch,
    decoding: Decoding,
) -> Draft:
    """model: the draft; reader: the model whose text it is."""
    vocabulary = model.decoder.vocab_size
    if vocabulary < tokenizer.vocab_size:
        raise UserError(
            f"draft: it knows {vocabulary} ids, the tokenizer has {tokenizer.vocab_size}; choose a draft that was "
            "trained with the model's tokenizer"
        )
    if model.patch != reader.patch:
        raise UserError(
            f"draft: model.encoder.patch={model.patch}, the model's is {reader.patch}: they would make "
            "different numbers of vision tokens of a page; choose a draft that cuts pages as the model does"
        )
    return Draft(TextDecoder(model, text.room), embedded(model, batch), text.lengths, decoding.cache)


@torch.inference_mode()
def embedded(model: OpticalModel, batch: MicroBatch) -> torch.Tensor:
    """What the decoder reads of the rows, [L, B, D]. On a CPU pages are encoded a few at a time: what they become on the
    way stays in its caches.
    """
    if batch.texts is not None or batch.tokens.device.type != "cpu":
        return model.embed(batch, model.encode(batch))
    some = [part for stack in batch.views for part in stack.split(max(1, PIXELS // stack[0, 0].numel()))]
    tables = [model.encode(replace(batch, views=(part,))).table for part in some]
    vision = [
        table[:-2] for table in tables if table is not None
    ]  # without newline and separator, which end the last
    return model.embed(batch, Vision(table=torch.cat([*vision, tables[-1][-2:]])))  # type: ignore[index]


def _reading(ids: list[int], tokenizer: Tokenizer) -> Reading:
    finished = bool(ids) and ids[-1] == tokenizer.eos
    return Reading(tokenizer.decode(ids[:-1] if finished else ids), finished, len(ids))
