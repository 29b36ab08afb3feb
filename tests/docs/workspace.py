"""The folder in which documented commands are typed, one after the other, as a reader of the pages would."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ranks import process

from tests.docs import stand_ins
from tests.docs.commands import Command
from tests.docs.flow import flow
from tests.docs.launches import Launch, launch_of
from tests.docs.running import Done, run
from tests.docs.tables import REPLACED, SHRINK, SHRINK_ONE, SLOW, TAKEN_FOR_GRANTED

Entry = TypeVar("Entry")


class Workspace:
    """Runs commands in a folder, what they need before them. Each is executed once, but where another has overwritten
    what it made.

    folder: does not exist yet. commands: all that may make what another needs, in the order of the pages.
    """

    def __init__(self, folder: Path, commands: Sequence[Command]) -> None:
        self.folder = folder
        granted = [Command(text, f"tests/docs/tables.py:{number}") for number, text in enumerate(TAKEN_FOR_GRANTED)]
        self.commands = [*commands, *granted]
        self.done: dict[Command, Done] = {}
        self.made_by: dict[str, Command] = {}  # folder -> the last command that made it
        self._under_way: list[Command] = []
        folder.mkdir()
        maker = process(stand_ins.make, folder)
        maker.start()
        maker.join()
        assert maker.exitcode == 0, "the stand-ins could not be made"

    def execute(self, command: Command) -> Done:
        """Runs what it needs, then the command itself with the words of SHRINK behind it."""
        if command not in self.done:
            launch = self.prepared(command)
            self.done[command] = self._run(command, launch)
        return self.done[command]

    def check(self, command: Command) -> Done:
        """Runs what it needs; of the command itself, all but what it is for: its configuration is composed and checked,
        a benchmark's arguments are read.
        """
        launch = self.prepared(command)
        if launch.module.startswith("benchmarks."):
            launch = launch.with_arguments("--help")
        return run(launch, self.folder, self._said(f"{command.place} checked"), checked_only=True)

    def prepared(self, command: Command) -> Launch:
        """The command with little to do, when everything that it reads is there."""
        launch = self._launch(command)
        assert launch is not None, f"{command}: is not started by Python"
        self._under_way.append(command)
        try:
            for path in flow(launch).reads:
                self._provide(path, command)
        finally:
            self._under_way.remove(command)
        return launch

    def _provide(self, path: str, reader: Command) -> None:
        """Sees to it that what the reader's page would have made of `path` is there."""
        makers = [other for other in self.commands if self._makes(other, path)]
        if not makers:
            missing = path.startswith("runs/") and not (self.folder / path).exists()
            assert not missing, (
                f"{reader}: no documented command makes {path}. Write the command that does into a ```sh block, or name "
                "another folder"
            )
            return
        page = reader.place.partition(":")[0]
        at = self.commands.index(reader)
        before = [other for other in makers if other.place.startswith(page) and self.commands.index(other) < at]
        maker = before[-1] if before else makers[0]
        launch = self._launch(maker)
        assert launch is not None
        if self.made_by.get(flow(launch).writes or "") is not maker:
            self.done.pop(maker, None)
        done = self.execute(maker)
        assert not any(done.codes), f"{reader}: needs what this makes, which failed: {maker}\n{done.said}"

    def _makes(self, other: Command, path: str) -> bool:
        """Whether `other` can be run for `path` now."""
        launch = None if matching(SLOW, other.text) or other in self._under_way else self._launch(other)
        return launch is not None and flow(launch).makes(path)

    def _launch(self, command: Command) -> Launch | None:
        """What it starts, with little to do."""
        launch = launch_of(command, self.folder)
        return launch and shortened(command, launch)

    def _run(self, command: Command, launch: Launch) -> Done:
        target = flow(launch).writes
        if target is not None:
            shutil.rmtree(self.folder / target, ignore_errors=True)
            self.made_by[target] = command
        done = run(launch, self.folder, self._said(command.place))
        assert any(done.codes) or target is None or (self.folder / target).exists(), (
            f"{command}: says that all went well, and made no {target}\n{done.said}"
        )
        return done

    def _said(self, what: str) -> Path:
        """A file for what a command says."""
        folder = self.folder / "said"
        folder.mkdir(exist_ok=True)
        return folder / re.sub(r"\W+", "-", what)


def shortened(command: Command, launch: Launch) -> Launch:
    """The launch with its words of REPLACED, SHRINK and SHRINK_ONE."""
    arguments = []
    for argument in launch.arguments:
        for word, other in REPLACED.items():
            argument = argument.replace(word, other)
        arguments.append(argument)
    less = [*SHRINK.get(launch.module, []), *(matching(SHRINK_ONE, command.text) or [])]
    return Launch(launch.module, (*arguments, *less), launch.world, launch.environment)


def matching(table: Mapping[str, Entry], text: str) -> Entry | None:
    """The entry of the first pattern of a table that fits a whole command; None where there is none."""
    return next((entry for pattern, entry in table.items() if re.fullmatch(pattern, text)), None)
