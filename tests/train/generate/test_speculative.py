"""Proposals change how many passes a text takes, never the text."""

from collections.abc import Sequence

import pytest
import torch

from conf.errors import ConfigError
from data_pipeline.errors import UserError
from data_pipeline.tokenizer import byte_tokenizer
from tests.train.generate.reading_model import TILED, batch_of, endless, joined, reading_model
from train.generate.decoder import TextDecoder
from train.generate.decoding import decode
from train.generate.options import Decoding, NoRepeat
from train.generate.sampling import Row
from train.generate.speculative import MOST, Lookup

pytestmark = pytest.mark.usefixtures("one_process")

RULES = {"no rule": None, "no repeats": NoRepeat(3, 12, frozenset([32]))}


@pytest.fixture
def passes(monkeypatch) -> list[tuple[int, int]]:
    """Shapes of what decoders read after the prompts, and by how many layers."""
    seen: list[tuple[int, int]] = []
    step = TextDecoder.step

    def counted(self: TextDecoder, tokens_BQ: torch.Tensor, cache) -> torch.Tensor:
        seen.append((len(self.layers), tokens_BQ.shape[1]))
        return step(self, tokens_BQ, cache)

    monkeypatch.setattr(TextDecoder, "step", counted)
    return seen


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("seed", range(4))
def test_texts_are_those_of_greedy_decoding(seed: int, count: int, rule: str, passes) -> None:
    """Random models over pages of different lengths, some of which end on the way; drafts that are often right (the
    model itself with other last digits) and never.
    """
    model = reading_model(seed)
    close, other = reading_model(seed), reading_model(seed + 100, layers=1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in close.parameters():
            weight.add_(0.003 * weight.std(correction=0) * torch.randn(weight.shape, generator=generator))
    batch = batch_of(count, TILED, first=8 * seed)

    class EndsSometimes:
        vocab_size, eos = 271, 101

    def text(draft=None, **options) -> list[list[int]]:
        passes.clear()
        decoding = Decoding(60, no_repeat=RULES[rule], **options)
        found = joined(list(decode(model, batch, EndsSometimes, decoding, draft)))  # type: ignore[arg-type]
        assert options or all(width == 1 for _, width in passes)
        return found

    greedy, plain = text(), len(passes)
    assert len({tuple(ids) for ids in greedy}) == count  # the page decides what is read
    assert text(speculate="lookup") == greedy
    assert text(close, speculate="draft") == greedy
    assert plain < 9 or any(width > 1 for _, width in passes)
    assert text(other, speculate="draft") == greedy


def test_a_draft_that_is_always_right_saves_most_passes(passes) -> None:
    model, batch = reading_model(), batch_of(3)
    draft = reading_model()
    greedy = joined(list(decode(model, batch, endless(), Decoding(64))))
    assert len(passes) == 63
    passes.clear()
    assert joined(list(decode(model, batch, endless(), Decoding(64, speculate="draft"), draft))) == greedy
    checks = [width for _, width in passes if width > 2]
    assert len(checks) <= 64 / (MOST + 1) + 3 and max(checks) == MOST + 1


def test_a_text_that_repeats_itself_is_looked_up(passes) -> None:
    """An untrained model whose embeddings are its output layer writes one id after itself."""
    model, batch = reading_model(strength=1.0, tied_embeddings=True), batch_of(2)
    greedy = joined(list(decode(model, batch, endless(), Decoding(64))))
    assert all(len(set(ids[8:])) <= 4 for ids in greedy)
    passes.clear()
    assert joined(list(decode(model, batch, endless(), Decoding(64, speculate="lookup")))) == greedy
    assert len(passes) <= 25


@pytest.mark.parametrize("speculate", ["lookup", "draft"])
def test_a_drawn_text_too_is_the_same(speculate: str) -> None:
    model, batch = reading_model(3, strength=1.0, tied_embeddings=True), batch_of(3, TILED)
    draft = model if speculate == "draft" else None
    options = {"temperature": 0.3, "top_p": 0.9, "seed": 5}
    plain = joined(list(decode(model, batch, endless(), Decoding(48, **options))))
    ahead = decode(model, batch, endless(), Decoding(48, speculate=speculate, **options), draft)
    steps = list(ahead)
    assert joined(steps) == plain and len(steps) < 48
    assert plain != joined(list(decode(model, batch, endless(), Decoding(48))))


@pytest.mark.parametrize("kept_as", ["bf16", "int8"])
def test_a_rounded_cache_gives_the_same_with_proposals(kept_as: str) -> None:
    model, batch = reading_model(2), batch_of(4, TILED)
    plain = joined(list(decode(model, batch, endless(), Decoding(40, cache=kept_as))))
    fast = joined(list(decode(model, batch, endless(), Decoding(40, cache=kept_as, speculate="lookup"))))
    assert fast == plain


def lookup_of(prompt: Sequence[int], written: Sequence[int], limit: int = 99) -> tuple[Lookup, Row]:
    row = Row(list(prompt), limit, Decoding(99), 271, 257, "")
    row.written += written
    return Lookup([row]), row


def test_what_followed_the_last_ids_is_proposed() -> None:
    lookup, row = lookup_of([1, 2, 3, 4, 5, 6, 7, 8], [9, 2, 3, 4])
    assert lookup.propose([row]) == [[5, 6, 7, 8]]
    row.written += [5, 6, 7, 8, 0]  # all right
    assert lookup.propose([row]) == [[]]
    row.written += [9, 2]
    assert lookup.propose([row]) == [[3, 4, 5, 6, 7, 8, 0, 9]]  # the last time they stood there
    lookup, row = lookup_of([], [5, 6, 7, 5, 6])
    assert lookup.propose([row]) == [[7, 5, 6, 7]]  # a loop
    lookup, row = lookup_of([1, 2, 3, 4, 5], [9, 2, 3], limit=4)
    assert lookup.propose([row]) == [[]]  # only one id may come, and it is the model's own
    lookup, row = lookup_of([], [7])
    assert lookup.propose([row]) == [[]]


def test_what_does_not_fit_is_refused() -> None:
    model, batch = reading_model(), batch_of(1)
    with pytest.raises(UserError, match="speculate=draft: a draft model is needed"):
        next(decode(model, batch, byte_tokenizer(), Decoding(9, speculate="draft")))
    with pytest.raises(UserError, match="speculate=none"):
        next(decode(model, batch, byte_tokenizer(), Decoding(9), model))
    small = reading_model(vocab_size=256)
    with pytest.raises(UserError, match="knows 256 ids, the tokenizer has 271"):
        next(decode(model, batch, byte_tokenizer(), Decoding(9, speculate="draft"), small))
    with pytest.raises(ConfigError):
        Decoding(9, speculate="lookups")
