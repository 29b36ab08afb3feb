"""The tables of what is not executed as it is typed say nothing that is no longer true."""

import pytest

from tests.docs.commands import ROOT, Command, documented
from tests.docs.flow import flow
from tests.docs.launches import launch_of
from tests.docs.tables import ELSEWHERE, REPLACED, SHRINK, SHRINK_ONE, SLOW, TAKEN_FOR_GRANTED
from tests.docs.workspace import matching

COMMANDS = documented()


@pytest.mark.parametrize("pattern", [*SHRINK_ONE, *SLOW, *ELSEWHERE])
def test_a_pattern_fits_a_documented_command(pattern: str) -> None:
    assert any(matching({pattern: True}, command.text) for command in COMMANDS), (
        f"no command of the documentation is {pattern}: take it out of tests/docs/tables.py"
    )


@pytest.mark.parametrize("module", SHRINK)
def test_a_module_that_is_given_less_to_do_is_documented(module: str) -> None:
    launches = [launch_of(command) for command in COMMANDS]
    assert any(launch and launch.module == module for launch in launches), f"tests/docs/tables.py: no command runs {module}"


@pytest.mark.parametrize("text", TAKEN_FOR_GRANTED)
def test_what_is_taken_for_granted_is_read(text: str) -> None:
    launch = launch_of(Command(text, "tests/docs/tables.py:1"))
    assert launch is not None
    made = flow(launch)
    readers = [launch_of(command) for command in COMMANDS if not matching(ELSEWHERE, command.text)]
    read = [path for reader in readers if reader for path in flow(reader).reads]
    assert any(made.makes(path) for path in read), f"tests/docs/tables.py: no command reads {made.writes}"


@pytest.mark.parametrize("word", REPLACED)
def test_a_word_that_is_replaced_is_documented(word: str) -> None:
    assert any(word in command.text for command in COMMANDS), f"tests/docs/tables.py: no command has {word}"


@pytest.mark.parametrize(("file", "text"), ELSEWHERE.values())
def test_what_executes_a_command_elsewhere_is_there(file: str, text: str) -> None:
    assert (ROOT / file).is_file() and text in (ROOT / file).read_text(), f"tests/docs/tables.py: {file} has no {text}"


def test_no_command_stands_in_two_tables() -> None:
    for command in COMMANDS:
        assert not (matching(SLOW, command.text) and matching(ELSEWHERE, command.text)), command
