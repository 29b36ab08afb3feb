"""`make wheelhouse` collects the pins of constraints.txt without resolving anything: they must be complete by themselves."""

import re
import subprocess
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {"torch", "triton"}  # the machine has them


def pins() -> set[str]:
    text = (ROOT / "constraints.txt").read_text()
    return {canonicalize_name(name) for name in re.findall(r"^([\w.\-]+)==", text, re.MULTILINE)}


def needed_by(requirements: list[str], extras: set[str]) -> set[str]:
    """The names of what `requirements` ask for here; a requirement's own extras count."""
    found = set()
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            found.add((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def test_every_package_that_is_needed_has_a_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    waiting = needed_by([*project["dependencies"], *optional], set())
    known: set[object] = set()
    while waiting:
        name, extras = entry = waiting.pop()
        known.add(entry)
        if name in LEFT_OUT:
            continue
        assert name in pins(), f"{name} has no pin in constraints.txt, and would be missing from the wheelhouse"
        with suppress(PackageNotFoundError):  # an extra that is not installed here
            waiting |= needed_by(requires(name) or [], set(extras)) - known


def test_another_python_is_refused_with_those_that_work() -> None:
    ran = subprocess.run([ROOT / ".ci" / "wheelhouse", "3.9"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "PYTHON_VERSION=3.9" in ran.stderr and "3.12" in ran.stderr
