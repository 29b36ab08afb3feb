"""Samples are sorted by what they are and by how much text their pages hold."""

from dataclasses import replace

import pytest

from data_pipeline.batch import BatchSpec, Collator, hole
from data_pipeline.strata import COMPRESSION_NAMES, COUNT, KIND_NAMES, by_name
from data_pipeline.tokenizer import byte_tokenizer
from tests.packed_samples import record


def named(kind: str, pages: int, letters: int, mode: str = "64") -> tuple[str, str]:
    """The strata of a sample with pages of 64 pixels, 4 vision tokens each, 4 and 4 more in four tiles of 32."""
    collator = Collator(byte_tokenizer(), BatchSpec((mode,), 8, 400))
    batch = collator([replace(record("a", pages, "x" * letters), kind=kind)], ["noise"])
    assert batch.strata is not None and batch.strata.shape == (1, 2)
    names = (*KIND_NAMES, *COMPRESSION_NAMES)
    first, second = (names[number] for number in batch.strata[0].tolist())
    return first, second


@pytest.mark.parametrize(
    ("pages", "letters", "compression"),
    [(1, 19, "0-5"), (1, 20, "5-7"), (1, 28, "7-10"), (2, 56, "7-10"), (1, 40, "10-15"), (1, 79, "15-20"), (1, 80, "20+"),
     (0, 80, "no_page"), (1, 0, "0-5")],
)  # fmt: skip
def test_text_tokens_of_the_target_over_vision_tokens_of_all_pages(pages: int, letters: int, compression: str) -> None:
    assert named("table", pages, letters) == ("table", compression)


def test_tiles_count_and_a_kind_of_a_users_own_is_other() -> None:
    assert named("invoice", 1, 40, "64+32") == ("other", "5-7")  # 4 of the overview, 1 of each tile


def test_packed_samples_and_holes_have_strata_in_their_order_and_every_name_is_told_once() -> None:
    collator = Collator(byte_tokenizer(), BatchSpec(("64",), 8, 400))
    samples = [collator.sample(one) for one in (record("a", 1, "x" * 24), hole("b", ""), record("c", 0, "y"))]
    strata = collator.packed([samples[:2], samples[2:]], [["noise"] * 2, ["noise"]]).strata
    assert strata is not None and strata.tolist() == [
        [KIND_NAMES.index(kind), len(KIND_NAMES) + COMPRESSION_NAMES.index(name)]
        for kind, name in (("text", "5-7"), ("other", "no_page"), ("text", "no_page"))
    ]
    kinds, compressions = by_name(range(COUNT))
    assert [*kinds.values(), *compressions.values()] == list(range(COUNT))
