"""The same samples as a student and as its teacher see them: labelled positions correspond, in any rows and modes."""

import pytest
import torch

from data_pipeline.batch import NO_LOSS, BatchSpec, hole
from data_pipeline.errors import SampleError
from data_pipeline.taught import TaughtCollator
from data_pipeline.tokenizer import byte_tokenizer
from tests.packed_samples import record

STUDENT, TEACHER = BatchSpec(("64", "64+32"), 8, 160), BatchSpec(("128",), 8, 320)
SAMPLES = ((1, "first page"), (0, "text alone"), (2, "two pages"), (1, "x"), (1, "the last one"))


def collator(teacher: BatchSpec = TEACHER) -> TaughtCollator:
    return TaughtCollator(byte_tokenizer(), STUDENT, teacher=teacher)


def samples(made_by: TaughtCollator) -> list:
    return [made_by.sample(record(f"k{number}", pages, text)) for number, (pages, text) in enumerate(SAMPLES)]


def texts(batch) -> list[int]:
    """The labels of all rows laid end to end."""
    return batch.labels[batch.labels != NO_LOSS].tolist()


@pytest.mark.parametrize("packed", [False, True])
def test_labels_follow_each_other_in_the_same_order_for_student_and_teacher(packed: bool) -> None:
    made_by = collator()
    first, *others = samples(made_by)
    rows = [[first, *others[:1]], others[1:]] if packed else [[first], *([other] for other in others)]
    names = [["noise"] * len(row) for row in rows]
    batch = made_by.packed(rows, names) if packed else made_by.rows(rows, names)
    assert batch.twin is not None and texts(batch) == texts(batch.twin)
    assert batch.twin.tokens.shape[0] == len(SAMPLES), "twins have a row a sample"
    places = [(rows.labels[0] != NO_LOSS).nonzero()[0].item() for rows in (batch, batch.twin)]
    assert places[0] != places[1], "a page takes as many positions of both"
    assert [page.mode for page in batch.twin.shown] == ["128"] * 5 and len(batch.shown) == 5
    assert batch.weights()["pages"] == 5.0 and batch.to("cpu").twin is not None


def test_a_text_without_a_page_is_cut_for_both_to_the_shorter_row() -> None:
    long = record("long", 0, "y" * 500)
    for most in (100, 320):
        made_by = collator(BatchSpec(("96",), 8, most))
        batch = made_by([long], ["noise"])
        assert texts(batch) == texts(batch.twin) and 0 < len(texts(batch)) < 160


def test_a_page_that_does_not_fit_the_teacher_is_a_bad_sample_and_a_hole_teaches_nothing() -> None:
    made_by = collator(BatchSpec(("256",), 8, 64))
    with pytest.raises(
        SampleError, match="does not fit the 64 positions of the teacher in distill.teacher_modes"
    ):
        made_by.sample(record("wide", 1, "text"))
    batch = made_by.rows([[made_by.sample(hole("wide", "noise"))]], [["noise"]])
    assert not texts(batch) and not texts(batch.twin)


def test_without_a_teacher_a_micro_batch_is_what_it_was() -> None:
    from data_pipeline.batch import Collator

    plain = Collator(byte_tokenizer(), STUDENT)([record("a", 1, "text")], ["noise"])
    taught = collator()([record("a", 1, "text")], ["noise"])
    assert plain.twin is None and plain.told is None and "pages" not in plain.weights()
    assert torch.equal(plain.tokens, taught.tokens) and torch.equal(plain.labels, taught.labels)
