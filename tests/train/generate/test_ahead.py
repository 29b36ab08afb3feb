"""Pages are opened ahead of the reader, but not too far; batches hold pages of equal length."""

import threading
import time

import pytest

from train.generate.ahead import batches, mapped_ahead


def test_results_come_in_order_and_no_further_ahead_than_allowed() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item * item

    results = mapped_ahead(work, range(40), ahead=4)
    for index, value in enumerate(results):
        assert value == index * index
        assert len(begun) <= index + 5
    assert sorted(begun) == list(range(40))


def test_items_are_worked_on_side_by_side() -> None:
    both = threading.Barrier(2, timeout=20)
    assert list(mapped_ahead(lambda item: both.wait() >= 0, range(4), ahead=2)) == [True] * 4


def test_whoever_stops_listening_stops_the_work() -> None:
    begun: list[int] = []
    results = mapped_ahead(begun.append, range(1000), ahead=3)
    next(results)
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.05)
    assert len(begun) <= 4
    with pytest.raises(ZeroDivisionError):
        list(mapped_ahead(lambda item: 1 // item, [1, 0, 1], ahead=2))


def test_items_of_equal_length_go_together() -> None:
    words = ["aa", "b", "cc", "d", "ee", "f", "gg", "h", "iii", "j"]
    found = list(batches(words, len, size=2, most_waiting=6))
    assert sorted(word for batch in found for word in batch) == sorted(words)
    assert found[:4] == [["aa", "cc"], ["b", "d"], ["ee", "gg"], ["f", "h"]]
    assert found[4:] == [["iii", "j"]]  # neighbours in length, as nobody else is left


def test_nobody_waits_for_ever() -> None:
    lengths = [1, 2, 3, 4, 5, 5, 5, 5, 5, 5]
    shown: list[int] = []

    def items():
        for item in lengths:
            shown.append(item)
            yield item

    first = next(batches(items(), lambda item: item, size=4, most_waiting=4))
    assert len(first) == 4 and len(shown) == 4  # four lengths wait: then they go together
    everything = [item for batch in batches(lengths, lambda item: item, 4, 4) for item in batch]
    assert sorted(everything) == lengths
