"""Two tensor-parallel ranks compute what one process computes: the encoder split, half split or whole, the decoder
split with its positions shared out.
"""

import numpy as np
import pytest
from ranks import launch

from tests.train.model.tensor_ranks import CASES, one, play

pytestmark = pytest.mark.usefixtures("one_process")


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    """All cases on both ranks, in one launch."""
    return launch(play, 2)


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_one_process(ranks, case: str) -> None:
    """fp32: a sum over features or positions is taken in two halves, which moves the last bits (6e-8 each); they
    add up over the layers that a gradient passes.
    """
    _, variant, recompute = CASES[case]
    logits, pieces, _ = one({}, variant, recompute)
    wanted = {key: np.full(shape, np.nan, np.float32) for key, shape, _, _ in pieces}
    for key, _, at, value in pieces:  # gate and up are two pieces of one matrix
        wanted[key][at] = value
    for rank in ranks:
        found, _, _ = rank[case]
        np.testing.assert_allclose(found, logits, rtol=0, atol=2e-6 * np.abs(logits).max())
    missing = {key: np.ones(value.shape, bool) for key, value in wanted.items()}
    for key, _, at, value in (piece for rank in ranks for piece in rank[case][1]):
        missing[key][at] = False
        difference = np.abs(value - wanted[key][at]).max()
        assert difference <= 5e-6 * np.abs(wanted[key]).max() + 1e-9, f"{key}: {difference}"
    assert not [key for key, places in missing.items() if places.any()]


@pytest.mark.parametrize(
    ("case", "split"),
    [
        ("heads divide", {"qkv", "proj", "lin1", "lin2", "fc1", "fc2"}),
        ("heads do not divide", {"lin1", "lin2", "fc1", "fc2"}),
        ("encoder replicated", set()),
        ("encoder replicated, heads do not divide", set()),
    ],
)
def test_of_the_encoder_is_split_what_can_and_may_be(ranks, case: str, split: set[str]) -> None:
    assert all(rank[case][2] == split for rank in ranks)


def test_a_split_matrix_takes_half_the_room_on_each_rank(ranks) -> None:
    key = "encoder.window.blocks.0.attn.qkv.weight"
    for rank in ranks:
        sizes = {case: value.size for case in CASES for name, _, _, value in rank[case][1] if name == key}
        assert sizes["heads divide"] == 96 * 32 // 2
        assert sizes["encoder replicated"] == 96 * 32
        assert sizes["heads do not divide"] == 72 * 24
