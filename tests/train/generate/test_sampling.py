"""What is chosen: the likeliest or a draw from the right distribution, and never what may not be repeated."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import ConfigError
from train.generate.options import Decoding, NoRepeat
from train.generate.sampling import Repeats, Row, distribution, draw

VOCABULARY, EOS = 20, 3


def refused(ids: list[int], rule: NoRepeat) -> set[int]:
    repeats = Repeats(rule)
    for token in ids:
        repeats.add(token)
    return repeats.refused()


def in_words(ids: list[int], rule: NoRepeat) -> set[int]:
    """The reference's text: prefix = last n-1 ids; search only n-grams fully inside the last `window` ids (start
    max(0, len-window), end len-n+1 exclusive); ban continuation except whitelist.
    """
    prefix, banned = ids[-(rule.size - 1) :], set()
    for start in range(max(0, len(ids) - rule.window), len(ids) - rule.size + 1):
        if ids[start : start + rule.size - 1] == prefix:
            banned.add(ids[start + rule.size - 1])
    return banned - rule.allowed


# Few different ids, so that runs come again.
@given(
    ids=st.lists(st.integers(0, 2), max_size=60),
    size=st.integers(2, 5),
    more=st.integers(0, 40),
    allowed=st.frozensets(st.integers(0, 2), max_size=1),
)
def test_what_may_not_be_repeated_is_as_the_reference_says(ids, size, more, allowed) -> None:
    rule = NoRepeat(size, size + more, allowed)
    assert refused(ids, rule) == in_words(ids, rule)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("window", [5, 12, 90])
def test_what_may_not_be_repeated_is_as_transformers_says(size: int, window: int) -> None:
    module = pytest.importorskip("transformers.models.unlimited_ocr.generation_unlimited_ocr")
    processor = module.UnlimitedOcrSlidingWindowNoRepeatNgramLogitsProcessor(size, window)
    stream, some = random.Random(size + window), 0
    for length in range(1, 80):
        ids = [stream.randrange(3) for _ in range(length)]
        scores = processor(torch.tensor([ids]), torch.zeros(1, 4))[0]
        theirs = set((scores == float("-inf")).nonzero().flatten().tolist())
        assert refused(ids, NoRepeat(size, window)) == theirs
        some += bool(theirs)
    assert some > 5 or window <= size + 2


def row(decoding: Decoding, limit: int = 100, key: str = "page") -> Row:
    return Row([1, 2], limit, decoding, VOCABULARY, EOS, key)


def logits(*best: int) -> tuple[torch.Tensor, list[int]]:
    """[len(best), T] with these on top, the next ids after them; and padding of the output layer above all."""
    values = torch.stack([torch.roll(torch.arange(VOCABULARY + 5.0).flip(0), token) for token in best])
    values[:, VOCABULARY:] = 99.0
    for place, token in enumerate(best):
        values[place, :VOCABULARY] = -((torch.arange(VOCABULARY) - token) % VOCABULARY).float()
    return values, values[:, :VOCABULARY].argmax(-1).tolist()


def test_ids_beyond_the_vocabulary_are_never_chosen() -> None:
    for decoding in (Decoding(9), Decoding(9, temperature=5.0), Decoding(9, no_repeat=NoRepeat(2, 9))):
        text = row(decoding)
        for token in (5, 6, 5, 6, 5):
            text.accept([], *logits(token))
        assert max(text.written) < VOCABULARY


def test_a_refused_id_gives_way_to_the_next_best() -> None:
    text = row(Decoding(9, no_repeat=NoRepeat(2, 9)))
    for token in (5, 6, 5, 6):
        text.accept([], *logits(token))
    assert text.written == [5, 6, 5, 7]
    allowed = row(Decoding(9, no_repeat=NoRepeat(2, 9, frozenset([6]))))
    for token in (5, 6, 5, 6):
        allowed.accept([], *logits(token))
    assert allowed.written == [5, 6, 5, 6]


def test_right_proposals_are_taken_and_one_id_more() -> None:
    text = row(Decoding(9))
    assert text.accept([5, 6, 9], *logits(5, 6, 7, 8)) == [5, 6, 7]
    assert text.accept([5], *logits(5, 6)) == [5, 6]
    assert text.written == [5, 6, 7, 5, 6] and not text.ended


def test_a_row_ends_at_its_end_or_its_limit_whatever_is_proposed() -> None:
    text = row(Decoding(9))
    assert text.accept([5, EOS, 6], *logits(5, EOS, 6, 7)) == [5, EOS] and text.ended
    text = row(Decoding(9), limit=2)
    assert text.accept([5, 6, 7], *logits(5, 6, 7, 8)) == [5, 6] and text.ended


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_distribution_is_that_of_transformers(temperature: float, top_p: float) -> None:
    warpers = pytest.importorskip("transformers.generation.logits_process")
    values = torch.randn(200, generator=torch.Generator().manual_seed(1)) * 3
    theirs = warpers.TemperatureLogitsWarper(temperature)(torch.zeros(1, 1).long(), values[None])
    theirs = warpers.TopPLogitsWarper(top_p)(torch.zeros(1, 1).long(), theirs)[0].softmax(-1)
    torch.testing.assert_close(distribution(values, temperature, top_p), theirs)


def test_draws_have_their_distribution() -> None:
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    stream = random.Random(0)
    counts = Counter(draw(probabilities, stream.random()) for _ in range(20_000))
    assert set(counts) == {1, 3, 4}
    for token, wanted in ((1, 0.5), (3, 0.3), (4, 0.2)):  # six standard deviations
        assert abs(counts[token] / 20_000 - wanted) < 6 * (wanted * (1 - wanted) / 20_000) ** 0.5
    assert draw(probabilities, 0.0) == 1 and draw(probabilities, 1 - 2**-53) == 4


def test_a_stream_is_its_seed_and_key_and_goes_on_one_number_an_id() -> None:
    def text(seed: int, key: str, proposals: bool = False) -> list[int]:
        found = row(Decoding(50, temperature=4.0, seed=seed), key=key)
        first = text(seed, key) if proposals else []
        while len(found.written) < 40:
            ahead = first[len(found.written) :][:3] if len(found.written) % 2 else [19]
            found.accept(ahead if proposals else [], *logits(*[8] * 4))
        return found.written[:40]

    assert text(0, "a") == text(0, "a") != text(0, "b")
    assert text(0, "a") != text(1, "a")
    assert text(0, "a", proposals=True) == text(0, "a")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoRepeat(1, 9), "no_repeat.size=1"),
        (lambda: NoRepeat(30, 20), "no_repeat.window=90"),
        (lambda: Decoding(0), "max_new_tokens=0"),
        (lambda: Decoding(9, temperature=-1.0), "temperature=-1.0"),
        (lambda: Decoding(9, temperature=float("nan")), "temperature=nan"),
        (lambda: Decoding(9, top_p=0.0), "top_p=0.0"),
        (lambda: Decoding(9, cache="fp8"), "choose one of auto, bf16, int8"),
        (lambda: Decoding(9, speculate="guess"), "choose one of none, lookup, draft"),
    ],
)
def test_impossible_settings_are_refused_with_what_to_choose(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
