"""wandb, kept at arm's length: a process beside rank 0 (`train.relay`) gives it what the run writes into its folder.

Nothing that wandb does or does not do can hold up or end the run.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from train.monitor.wandb_id import WANDB_ID, fixed_id

QUIETEST_LAST = ("online", "offline", "disabled")
FINISH_SECONDS = 30.0  # that the end of a run waits for wandb
HURRIED_SECONDS = 5.0  # the same of a run that a signal stops: it goes on later, and wandb gets the rest then


class WandbLogger:
    """One wandb run for all processes of a run; with mode "disabled" it does nothing.

    The quieter of `mode` and the environment's WANDB_MODE holds. `say` prints one line for a person. anew: what is in the folder
    is another run's, so this one gets another id.
    """

    def __init__(
        self, folder: Path, mode: str, project: str, name: str, say: Callable[[str], None], anew: bool = False
    ) -> None:
        self.id: str | None = None
        self.mode = max(mode, os.environ.get("WANDB_MODE", "online"), key=_quietness)
        self._folder, self._say = folder, say
        self._relay: subprocess.Popen[bytes] | None = None
        if _quietness(self.mode) == _quietness("disabled"):
            return
        if anew:
            (folder / WANDB_ID).unlink(missing_ok=True)
        self.id = fixed_id(folder, name)
        try:
            self._relay = self._started(project)
        except OSError as error:
            say(f"wandb could not start ({error.strerror}); metrics.jsonl has all")

    def _started(self, project: str) -> "subprocess.Popen[bytes]":
        """It ends when its standard input does: with `close`, or with this process, however that ends."""
        root = Path(__file__).resolve().parents[2]
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        mode = "offline" if self.mode == "offline" else "online"
        given = [f"run='{self._folder}'", f"mode={mode}", f"project='{project}'"]
        return subprocess.Popen(
            [sys.executable, "-m", "train.relay", *given],
            stdin=subprocess.PIPE, start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip

    def close(self, hurried: bool = False) -> None:
        """Lets wandb finish, for a while. It tells by itself, where it was offline, how to upload."""
        patience = HURRIED_SECONDS if hurried else FINISH_SECONDS
        if self._relay is None or self._relay.stdin is None:
            return
        self._relay.stdin.close()
        try:
            code = self._relay.wait(patience)
        except subprocess.TimeoutExpired:
            self._say(f"wandb is not done after {patience:g} s; it goes on by itself, and metrics.jsonl is whole")
            return
        if code < 0:
            self._say(f"wandb's process was killed (signal {-code}); to upload: python -m train.relay run={self._folder}")


def _quietness(mode: str) -> int:
    return QUIETEST_LAST.index(mode) if mode in QUIETEST_LAST else 0
