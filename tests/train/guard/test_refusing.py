"""A step that is not made leaves no trace, on any rank, whoever found it wanting and whatever the layout."""

import math

import pytest
from ranks import free_ports, launch

from tests.train.guard.refusing_ranks import BAD, CASES, LAYOUTS, all_cases

NAMES = ["-".join(map(str, case)) for case in CASES]


@pytest.fixture(scope="module")
def found():
    """What each of two ranks saw in every case."""
    return launch(all_cases, 2, free_ports(len(LAYOUTS)))


@pytest.mark.fault(
    "NaN or infinite loss or gradient",
    injected="a loss of NaN, then an infinite gradient, on rank 1 of 2: data, pipeline, expert and tensor ranks, ZeRO 1 to 3, "
    "fp32 and bf16, AdamW, Muon, GaLore, 8-bit AdamW, schedule-free AdamW and LOMO",
    handled="no rank makes the step: weights, masters and optimizer states are bit-equal to those before it",
    lost="the step",
)
@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_is_not_made_leaves_no_trace(found, name):
    kinds = BAD[:2] if "lomo" in name else BAD
    for rank in found:
        seen = rank[name]
        assert seen["skipped"] == dict.fromkeys(kinds, True)
        assert seen["unchanged"] == dict.fromkeys(kinds, True)
        assert seen["equal"], "the next step is another one than without the bad ones"


@pytest.mark.parametrize("name", [name for name in NAMES if "lomo" not in name])
def test_one_rank_that_refuses_is_enough_and_both_are_asked_for_the_same_numbers(found, name):
    first, second = (rank[name] for rank in found)
    assert first["asked"] == second["asked"], "ranks saw different numbers"
    (loss, nan), (same, norm) = first["numbers"]["refused loss"], first["numbers"]["refused norm"]
    # one for the infinite gradient's loss, then the refused loss, then a loss and the norm that is refused
    assert [word for word, _ in first["asked"]] == ["loss", "loss", "loss", "grad_norm"]
    assert loss == same and math.isnan(nan) and math.isfinite(norm)
    assert first["asked"][-1] == ("grad_norm", norm)


@pytest.mark.parametrize("name", NAMES)
def test_the_micro_batch_and_the_parameters_behind_it_are_known_on_their_rank(found, name):
    layout = name.split("-")[0]
    seen = [rank[name] for rank in found]
    last = [True] if "lomo" in name else [True, True]
    wrong = [*last[:-1], False]
    assert seen[1]["own"]["loss"] == seen[1]["again"]["loss"][0] == wrong
    assert seen[0]["own"]["loss"] == seen[0]["again"]["loss"][0] == last
    for rank in seen:
        assert rank["own"]["gradient"] == rank["again"]["gradient"][0] == last
    gradients = seen[1]["again"]["gradient"][1]
    assert {number for number, _ in gradients} == {len(last) - 1}, "the first micro-batch is blamed, too"
    assert gradients[0][1] == "output_layer.weight", "the nearest to the loss comes first"
    if layout == "data":
        assert seen[0]["again"]["gradient"][1] == ()
