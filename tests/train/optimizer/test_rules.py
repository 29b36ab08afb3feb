"""Every rule through the engine and ZeRO, against other people's optimizers on one process; and its checkpoints."""


import functools

import pytest
import tiny_decoder as tiny
from ranks import launch

from tests.train.optimizer import oracles
from tests.train.optimizer.rule_ranks import CASES, SAVED_AT, STEPS, all_rules, on_one, poisoned_and_counted

NAMES = ["-".join(map(str, case)) for case in CASES]
# How far the weights may end from the reference's, as a part of the way they went. Sums of gradients in another order round
# otherwise; the sign of a number near zero (Lion), steps between values of 8 bits and bf16 products (Muon, whose
# matrices of few tokens have directions of rounding alone) make more of that.
BANDS = {"lion": 0.02, "lion_8bit": 0.02, "adamw_8bit": 0.02, "muon": 0.08}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def found(folder):
    """World -> what every rank saw."""
    return {world: launch(all_rules, world, folder) for world in (1, 2)}


@pytest.fixture(scope="module")
def alone():
    """This process as a world of one, for the other people's runs."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    yield
    stop()


@pytest.fixture(scope="module")
def truth(alone):
    """(rule, world) -> losses and weights of the reference; the world matters to states of 8 bits alone."""
    return functools.cache(lambda name, world: oracles.reference(oracles.SETTINGS[name], STEPS, world))


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_rule_does_what_its_reference_does(found, truth, case, world):
    name, _, precision = case
    result = found[world][0]["-".join(map(str, case))]
    history, weights = truth(name, world if "8bit" in name else 1)
    band = 1e-5 if precision == "fp32" else 2e-2
    assert [loss for loss, _ in result["through"]] == pytest.approx(history, rel=band)
    if precision == "bf16":
        return  # the module's weights are rounded more than they moved
    start, worst = tiny.weights_of(tiny.build()), 0.0
    for key, value in weights.items():
        way = (value - start[key]).norm()
        assert way > 0, key
        worst = max(worst, float((result["weights"][key] - value).norm() / way))
    assert worst < BANDS.get(name, 1e-3)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_is_bit_equal_and_a_look_in_between_leaves_no_trace(found, name, world):
    for result in (rank[name] for rank in found[world]):
        assert result["again"] == result["through"][SAVED_AT:]
        assert result["same"] and result["untouched"]


def test_two_ranks_checkpoints_are_read_by_one_but_for_states_of_8_bits(found, folder):
    (alone,) = launch(on_one, 1, folder)
    for case, name in [pair for pair in zip(CASES, NAMES) if pair[1] in alone]:
        if "8bit" in name:
            assert "in the layout of the checkpoint" in alone[name]
        else:
            expected = [loss for loss, _ in found[2][0][name]["through"][SAVED_AT:]]
            assert [loss for loss, _ in alone[name]] == pytest.approx(expected, rel=1e-5 if case[2] == "fp32" else 2e-2), name
    assert len(alone) > 5
    assert "another optimizer (muon; this run's is lion)" in alone["another rule"]


def test_a_step_in_the_backward_leaves_no_gradients_is_skipped_whole_and_refuses_to_add_up(found):
    for result in launch(poisoned_and_counted, 2):
        assert result["skipped"] and result["same"]
        assert result["after"] == found[2][0]["lomo-1-fp32"]["through"][:1]
        assert result["gradients"] == 0
        assert "cannot add up micro-batches: choose data.global_batch = " in result["told"]


def test_states_take_the_memory_that_they_are_chosen_for(found):
    kept = {name.split("-")[0]: result["bytes"] for name, result in found[1][0].items() if name.endswith("fp32")}
    assert kept["lion"] == pytest.approx(kept["adamw"] / 2, rel=0.01)
    assert kept["adamw_8bit"] < 0.3 * kept["adamw"]
    assert kept["adafactor"] < 0.01 * kept["adamw"]
