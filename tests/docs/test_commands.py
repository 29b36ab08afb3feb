"""Every command of the documentation is executed, here or by the test that a table names."""

import pytest

from tests.docs.commands import Command, documented
from tests.docs.launches import launch_of
from tests.docs.tables import ELSEWHERE, SLOW
from tests.docs.workspace import Workspace, matching

pytestmark = pytest.mark.timeout(900)  # what a command needs is executed before it

COMMANDS = documented()
STARTED = [command for command in COMMANDS if not matching(ELSEWHERE, command.text)]
QUICK = [command for command in STARTED if not matching(SLOW, command.text)]
LONG = [command for command in STARTED if matching(SLOW, command.text)]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("docs") / "typed", COMMANDS)


@pytest.mark.parametrize("command", QUICK, ids=str)
def test_a_documented_command_does_its_work(command: Command, workspace: Workspace) -> None:
    assert launch_of(command) is not None, (
        f"{command}: is neither `python -m` nor `torchrun -m`. Name the test that executes it in tests/docs/tables.py, ELSEWHERE"
    )
    done = workspace.execute(command)
    assert not any(done.codes), f"{command}\n{done.said}"


@pytest.mark.parametrize("command", LONG, ids=str)
def test_a_long_command_would_start(command: Command, workspace: Workspace) -> None:
    done = workspace.check(command)
    assert not any(done.codes), f"{command}\n{done.said}"


@pytest.mark.slow
@pytest.mark.parametrize("command", LONG, ids=str)
def test_a_long_command_does_its_work(command: Command, workspace: Workspace) -> None:
    done = workspace.execute(command)
    assert not any(done.codes), f"{command}\n{done.said}"
