"""Where and with what a run was made: versions, revision, kind of machine. Never its name, nor a path on it."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "megatron-core", "deepspeed", "webdataset", "hydra-core", "numpy", "wandb")
ABSOLUTE = re.compile(r"(?<![\w.:/~])/(?:[^\s/:,'\"\]})]+/)*([^\s/:,'\"\]})]+)/?")


def versions() -> dict[str, str]:
    """Python's and the installed packages' versions; packages that are not there are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The revision of this source tree, with "+changes" where files differ from it; None outside a
    repository.
    """
    tree = Path(__file__).resolve().parents[2]
    try:
        revision = _git(tree, "rev-parse", "--short=12", "HEAD")
        changed = _git(tree, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changed else "")


def machine_kind() -> str:
    """What the machine is, without its name: "Linux x86_64, 2 cores"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores"


def without_paths(text: str) -> str:
    """`text` with each absolute path cut to its last part and the machine's name taken out: a report may be
    shown around.
    """
    text = text.replace(f"{Path.cwd()}/", "")
    text = ABSOLUTE.sub(lambda match: f"…/{match.group(1)}", text)
    host = platform.node()
    return re.sub(rf"\b{re.escape(host)}\b", "this-machine", text) if len(host) > 3 else text


def _git(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=tree, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
