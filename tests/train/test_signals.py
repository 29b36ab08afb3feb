import os
import signal

import pytest

from train.signals import SIGNALS, StopFlag


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_raises_the_flag_and_later_ones_change_nothing(number: signal.Signals) -> None:
    with StopFlag() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert stop.signal is number
        assert stop.requested_anywhere()


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError), StopFlag():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before
