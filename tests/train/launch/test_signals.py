import os
import signal
import subprocess
import sys
import textwrap

import pytest

from train.launch.signals import ONE_PRESS, SIGNALS, StopFlag


@pytest.mark.fault(
    "second signal",
    injected="SIGTERM after SIGTERM or SIGUSR1",
    handled="the first one counts",
    lost="nothing",
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
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


def test_ctrl_c_ends_a_process_that_has_nothing_to_save() -> None:
    with StopFlag() as stop:
        with stop.working():
            pass
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop.requested


def test_ctrl_c_stops_at_work_a_second_one_is_told_to_wait_and_a_third_ends_it() -> None:
    """The signal that a launcher passes on at once counts with the one that the terminal delivered."""
    program = f"""
        import os, signal, time
        from train.launch.signals import StopFlag
        with StopFlag() as stop, stop.working():
            for press in range(3):
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)
                print("goes on", press, stop.signal.name, flush=True)
                time.sleep({ONE_PRESS} + 0.1)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 130
    assert ran.stdout.splitlines() == ["goes on 0 SIGINT", "goes on 1 SIGINT"]
    told = [line for line in ran.stderr.splitlines() if line]
    assert [line.partition(":")[0] for line in told] == ["Ctrl-C", "Ctrl-C again", "Ctrl-C a third time"]
    assert "saves" in told[0] and "saving" in told[1]
