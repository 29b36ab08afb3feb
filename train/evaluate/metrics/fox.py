"""The measures of the Fox benchmark (github.com/ucaslcl/Fox, eval_ocr_test.py), in both readings.

Its script hands its two texts over in the wrong order: what it prints as precision is the share of the *page's*
words that the model wrote somewhere, and what it prints as recall is the precision; BLEU and METEOR are swapped
as well. F and edit distance do not change. `fox_scores(...)` is what the names mean, `fox_as_published(...)` is what
the script prints, and what figures "by the Fox script" must be compared with.

Either way words are compared as sets: order and repetition are not seen. Words come from jieba as soon as one
of the two texts has a Chinese character, else from whitespace. METEOR is without synonyms (exact words and
stems): the synonyms come from WordNet, which is a download; the script's figure is this one or a little higher.
"""

import logging
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass

from train.evaluate.metrics.extra import extra
from train.evaluate.metrics.text import edit_distance

_CHINESE = re.compile("[\u4e00-\u9fa5]")


@dataclass(frozen=True)
class FoxScores:
    """Measures of one page; all in [0, 1], and all but `edit_distance` better when higher."""

    precision: float
    recall: float
    f_measure: float
    bleu: float
    meteor: float  # without synonyms
    edit_distance: float  # of the characters, over the longer text


def fox_scores(reference: str, hypothesis: str) -> FoxScores:
    """The measures as their names mean them: `hypothesis` was read, `reference` stands on the page.

    The published script fails on texts without words; here two empty texts agree fully, and an empty one
    shares nothing with another. Raises UserError when nltk or jieba (for Chinese) is missing.
    """
    expected, read = words(reference, hypothesis)
    if not expected or not read:
        agree = float(not expected and not read)
        return FoxScores(agree, agree, agree, agree, agree, edit_distance(reference, hypothesis))
    shared = len(set(expected) & set(read))
    precision, recall = shared / len(set(read)), shared / len(set(expected))
    return FoxScores(
        precision=precision,
        recall=recall,
        f_measure=2 * precision * recall / (precision + recall) if shared else 0.0,
        bleu=_bleu(expected, read),
        meteor=_meteor(expected, read),
        edit_distance=edit_distance(reference, hypothesis),
    )


def fox_as_published(reference: str, hypothesis: str) -> FoxScores:
    """What the benchmark's script prints: the measures with the two texts exchanged."""
    return fox_scores(hypothesis, reference)


def words(reference: str, hypothesis: str) -> tuple[list[str], list[str]]:
    """Both texts as words: jieba's when either has a Chinese character (spaces are words then, as in the
    script), else by whitespace.
    """
    if _CHINESE.search(reference) or _CHINESE.search(hypothesis):
        jieba = extra("jieba", "cutting Chinese into words, as the Fox measures do,")
        jieba.setLogLevel(logging.WARNING)  # it announces its dictionary on stderr
        return jieba.lcut(reference), jieba.lcut(hypothesis)
    return reference.split(), hypothesis.split()


def _bleu(expected: list[str], read: list[str]) -> float:
    score = extra("nltk.translate.bleu_score", "BLEU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no 4-gram in common: 0, which is what is wanted
        return float(score.sentence_bleu([expected], read))


class _NoSynonyms:
    """Stands where nltk expects WordNet."""

    def synsets(self, word: str) -> Collection[object]:
        """No meanings are known."""
        return ()


def _meteor(expected: list[str], read: list[str]) -> float:
    score = extra("nltk.translate.meteor_score", "METEOR")
    return float(score.single_meteor_score(expected, read, wordnet=_NoSynonyms()))
