import json
import math
import statistics

from train.guard.window import Window


def filled(values, size=8):
    window = Window(size)
    for value in values:
        window.add(value)
    return window


def test_deviations_are_those_of_the_values_before():
    values = [3.0, 3.5, 2.5, 4.0, 3.0]
    expected = (9.0 - statistics.mean(values)) / statistics.stdev(values)
    assert math.isclose(filled(values).deviations(9.0), expected)
    assert filled(values).deviations(1.0) < 0, "a fall is no spike"


def test_only_the_last_ones_count():
    assert filled([100.0, *[1.0, 2.0] * 4]).deviations(4.0) == filled([1.0, 2.0] * 4).deviations(4.0)


def test_the_first_half_of_a_window_tells_nothing_nor_do_values_all_alike():
    assert filled([1.0, 2.0, 1.0]).deviations(50.0) is None
    assert filled([1.0, 2.0, 1.0, 2.0]).deviations(50.0) > 6
    assert filled([1.0] * 8).deviations(1.1) is None


def test_what_is_not_finite_leaves_no_trace():
    window = filled([1.0, 2.0, math.nan, math.inf, 1.0, 2.0])
    assert window.state() == [1.0, 2.0, 1.0, 2.0] and window.deviations(math.nan) is None


def test_after_a_restart_it_begins_anew():
    window = filled([1.0, 2.0] * 4)
    window.clear()
    assert window.deviations(50.0) is None


def test_its_state_is_exact_in_json():
    window, other = filled([0.1, 1 / 3, math.pi, 2.0, 2.5]), Window(8)
    other.restore(json.loads(json.dumps(window.state())))
    assert other.deviations(7.7) == window.deviations(7.7)
