"""Pages to text: greedy decoding with a cache of keys and values, a batch of pages at a time.

Greedy, with no penalty, no repetition filter and no length hint: what the model itself would write, so that a
figure made from it needs no footnote. A row ends at the end-of-text token; a model that never says it is cut
at the limit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_pipeline.batch import BatchSpec, MicroBatch, prompt_batch
from data_pipeline.tokenizer import Tokenizer
from parallel.pipeline import evaluating
from train.model.optical import DecodingCache, OpticalModel


@dataclass(frozen=True)
class Reading:
    """What was read from one page. finished: the model ended the text itself; tokens: generated, the end
    included.
    """

    text: str
    finished: bool
    tokens: int


def generate(
    model: OpticalModel,
    tokenizer: Tokenizer,
    pages: Sequence[np.ndarray],
    prompt: str,
    spec: BatchSpec,
    max_new_tokens: int,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
) -> list[str]:
    """The text of each page. pages: uint8 [height, width] or [height, width, 3]; `progress` gets the pages
    just done.
    """
    return [
        item.text
        for item in read(model, tokenizer, pages, prompt, spec, max_new_tokens, batch_size, progress)
    ]


def read(
    model: OpticalModel,
    tokenizer: Tokenizer,
    pages: Sequence[np.ndarray],
    prompt: str,
    spec: BatchSpec,
    max_new_tokens: int,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
) -> list[Reading]:
    """As `generate`, with how each text ended. DataError when page and prompt do not fit `spec.max_length`.

    A row is cut at `max_new_tokens`, or where page, prompt and text reach `spec.max_length`, what the model
    was made for.
    """
    readings: list[Reading] = []
    device = next(model.parameters()).device
    for start in range(0, len(pages), batch_size):
        batch = prompt_batch(pages[start : start + batch_size], prompt, tokenizer, spec).to(device)
        columns = list(
            decode(model, batch, tokenizer, min(max_new_tokens, spec.max_length - batch.tokens.shape[1]))
        )
        rows = torch.stack(columns, dim=1).tolist() if columns else [[] for _ in batch.keys]
        readings += [_reading(ids, tokenizer) for ids in rows]
        if progress:
            progress(len(rows))
    return readings


def decode(
    model: OpticalModel, batch: MicroBatch, tokenizer: Tokenizer, limit: int
) -> Iterator[torch.Tensor]:
    """The next token of every row, int64 [B], at most `limit` times; rows that ended repeat the end token.

    Every row of `batch` ends after its prompt (`prompt_batch`). The model is in evaluation mode while this
    runs.
    """
    rows, length = batch.tokens.shape
    if limit < 1:
        return
    cache = DecodingCache(rows, length + limit)
    with evaluating(model), torch.no_grad():
        logits = model.prefill(batch, cache)
        finished = torch.zeros(rows, dtype=torch.bool, device=logits.device)
        for position in range(limit):
            # Ids above the tokenizer's are padding of the output layer: no text belongs to them.
            tokens = logits[:, : tokenizer.vocab_size].argmax(dim=-1).masked_fill(finished, tokenizer.eos)
            finished |= tokens == tokenizer.eos
            yield tokens
            if position + 1 == limit or bool(finished.all()):
                return
            logits = model.decode_step(tokens, cache)


def _reading(ids: list[int], tokenizer: Tokenizer) -> Reading:
    finished = tokenizer.eos in ids
    kept = ids[: ids.index(tokenizer.eos)] if finished else ids
    return Reading(tokenizer.decode(kept), finished, len(kept) + finished)
