"""Fox measures, against nltk called as the benchmark's script does, and against values by hand."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.metrics import distance
from nltk.metrics import scores as nltk_scores

from data_pipeline.errors import UserError
from train.evaluate.metrics import fox_as_published, fox_scores
from train.evaluate.metrics.extra import extra

WORDS = ["the", "cat", "sat", "on", "a", "mat", "mats", "quickly", "Mat."]


def random_words(generator: random.Random) -> str:
    return " ".join(generator.choices(WORDS, k=generator.randrange(1, 12)))


def test_both_readings_agree_with_nltk() -> None:
    """The script calls its function of (prediction, truth) with (truth, prediction)."""
    generator = random.Random(1)
    for _ in range(100):
        label, answer = random_words(generator), random_words(generator)
        truth, read = set(label.split()), set(answer.split())
        published, meant = fox_as_published(label, answer), fox_scores(label, answer)
        assert published.precision == pytest.approx(nltk_scores.precision(read, truth))
        assert published.recall == pytest.approx(nltk_scores.recall(read, truth))
        assert meant.precision == pytest.approx(nltk_scores.precision(truth, read))
        assert meant.recall == pytest.approx(nltk_scores.recall(truth, read))
        assert meant.f_measure == pytest.approx(nltk_scores.f_measure(truth, read) or 0.0)
        assert published.f_measure == pytest.approx(meant.f_measure)
        edits = distance.edit_distance(label, answer) / max(len(label), len(answer))
        assert published.edit_distance == pytest.approx(edits)
        assert meant.edit_distance == pytest.approx(edits)


def test_the_published_precision_is_the_recall_of_a_page_half_read() -> None:
    page = "one two three four five six"
    assert fox_scores(page, "one two three").precision == 1.0
    assert fox_as_published(page, "one two three").precision == 0.5
    assert fox_as_published(page, page + " and much that is not there").precision == 1.0


def test_words_count_once_whatever_their_order() -> None:
    scores = fox_scores("a b c", "c c b a a a")
    assert (scores.precision, scores.recall, scores.f_measure) == (1.0, 1.0, 1.0)
    assert scores.edit_distance > 0.5


def test_bleu_by_hand() -> None:
    """Six words, five right: n-gram precisions 5/6, 3/5, 2/4, 1/3; equally long, so no penalty."""
    expected = math.prod([5 / 6, 3 / 5, 2 / 4, 1 / 3]) ** (1 / 4)
    assert fox_scores("the cat sat on the mat", "the cat sat on a mat").bleu == pytest.approx(expected)
    short = math.exp(1 - 6 / 5)  # brevity penalty; all n-grams of the five words are right
    assert fox_scores("the cat sat on the mat", "the cat sat on the").bleu == pytest.approx(short)


def test_meteor_by_hand_with_stems_and_without_synonyms() -> None:
    """Three of four words found ("mats" by its stem), in one chunk: F with recall weighted 9 to 1, penalty 0.5 · (1/3)³."""
    precision = recall = 3 / 4
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    expected = mean * (1 - 0.5 * (1 / 3) ** 3)
    assert fox_scores("a mat lies large", "a mats lies big").meteor == pytest.approx(expected)


def test_chinese_is_cut_into_words_by_jieba() -> None:
    """jieba's own example: 我 来到 北京 清华大学."""
    scores = fox_scores("我来到北京清华大学", "我来到北京")
    assert (scores.precision, scores.recall) == (1.0, 0.75)
    assert fox_as_published("我来到北京清华大学", "我来到北京").precision == 0.75
    assert scores.edit_distance == pytest.approx(4 / 9)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "agree"), [("", "", 1), ("a b", "", 0), ("", "a", 0), (" ", "", 1)]
)
def test_texts_without_words_do_not_fail(reference: str, hypothesis: str, agree: float) -> None:
    for scores in (fox_scores(reference, hypothesis), fox_as_published(reference, hypothesis)):
        assert (scores.precision, scores.recall, scores.f_measure, scores.bleu, scores.meteor) == (agree,) * 5


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=8), st.lists(st.sampled_from(WORDS), max_size=8))
def test_the_readings_mirror_each_other_and_stay_in_bounds(left: list[str], right: list[str]) -> None:
    meant, published = (
        fox_scores(" ".join(left), " ".join(right)),
        fox_as_published(" ".join(left), " ".join(right)),
    )
    assert (meant.precision, meant.recall) == (published.recall, published.precision)
    assert all(0.0 <= value <= 1.0 + 1e-9 for value in vars(meant).values())


def test_a_missing_library_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(
        UserError, match=r"weighing air needs the package no_such_library.*pip install .*\[evaluate\]"
    ):
        extra("no_such_library.part", "weighing air")
