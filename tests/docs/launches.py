"""What a documented command starts: a module, its arguments, and in how many processes."""

import re
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tests.docs.commands import ROOT, Command

_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=")
_PROCESSES = re.compile(r"--nproc[-_]per[-_]node(?:=(\d+))?")
_UNQUOTED_OPERATOR = re.compile(r"""(?:[^'"|<>&$`]|'[^']*'|"[^"$`]*")*""")


@dataclass(frozen=True)
class Launch:
    """`python -m module arguments`, in `world` processes, with more in the environment."""

    module: str
    arguments: tuple[str, ...] = ()
    world: int = 1
    environment: tuple[tuple[str, str], ...] = ()

    def with_arguments(self, *more: str) -> "Launch":
        return replace(self, arguments=(*self.arguments, *more))


def launch_of(command: Command, folder: Path = ROOT) -> Launch | None:
    """What the command starts when it is typed in `folder`; None where it is no `python -m` and no `torchrun -m`."""
    text = _by_make(command.text)
    if not _UNQUOTED_OPERATOR.fullmatch(text):
        return None
    words = _words(text, folder)
    environment = []
    while words and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        environment.append((name, value))
    world = 1
    if words[:1] == ["torchrun"] and len(words) > 1 and (asked := _PROCESSES.fullmatch(words[1])):
        world = int(asked[1] or words[2])
        words = ["python", *words[2 if asked[1] else 3 :]]
    if len(words) < 3 or words[:2] != ["python", "-m"]:
        return None
    return Launch(words[2], tuple(words[3:]), world, tuple(environment))


def _by_make(text: str) -> str:
    """`make smoke` as what its rule runs in the environment that it has made; any other text as it is."""
    target = re.fullmatch(r"make (\w+)", text)
    rule = target and re.search(rf"^{target[1]}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    runs = rule and re.search(r"\$\(BIN\)/(python -m train.*)", rule[1])
    return runs[1] if runs else text


@cache
def _words(text: str, folder: Path) -> list[str]:
    """The words that bash makes of it: patterns and braces are looked at as they will be."""
    made = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}"], cwd=folder, capture_output=True, text=True, check=True
    )
    return made.stdout.removesuffix("\0").split("\0")
