"""The port at which ranks meet is somebody else's."""

import socket
from pathlib import Path

import pytest

from tests.faults.harness import Runs
from train.launch.peers import PEER_LOST


@pytest.mark.fault(
    "port clash",
    injected="another program listens at MASTER_PORT",
    handled="rank 0 says at once that the port is taken and how to choose another, exit code 75 (try again); a Slurm job starts again "
    "with another port",
    lost="nothing",
)
def test_a_port_that_is_taken_is_told_at_once(runs: Runs, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        started = runs.start(tmp_path / "run", world=2, port=port)
        try:
            started.ranks[0].join(100)
            assert started.codes[0] == PEER_LOST, started.err()
        finally:
            started.kill()
    (said,) = started.err().strip().splitlines()
    assert f"MASTER_PORT={port} of this machine is taken" in said and "export MASTER_PORT=" in said
