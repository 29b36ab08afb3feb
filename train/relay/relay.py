"""Follows a run folder and gives wandb each new row, until the run that started it has ended.

One rule makes one wandb run of many processes: a start gives wandb every step that it does not have yet, from metrics.jsonl. wandb
refuses to go back, so a step that is done again after a resume keeps there the value that was uploaded first; offline, where
nothing was uploaded, the run is written anew with the values that count.
"""

import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from train.monitor.samples import SAMPLES, Page
from train.monitor.wandb_id import WANDB_ID, fixed_id
from train.relay.config import RelayConfig
from train.relay.earlier import uploaded_until
from train.relay.opened import opened, sync_line
from train.relay.rows import Rows

POLL = 1.0  # seconds between looks
FINISH_SECONDS = 90  # after the run's end, in which wandb may upload
ATTEMPTS = 4
SERVICE = "WANDB_SERVICE"  # where wandb leaves word of the service that is gone
PAUSE = 2.0  # seconds before the second start, then twice as long each time


def relay(config: RelayConfig) -> int:
    """Until standard input ends; 0 when wandb has all. Starts itself again when wandb's service is gone."""
    _ignore_signals()
    with _alone(Path(config.run)):
        return _relay(config)


def _relay(config: RelayConfig) -> int:
    folder = Path(config.run)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to wandb's makers, offline too
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(folder.resolve() / "wandb" / "data"))  # pictures to upload; else at home
    try:
        run, mode, after = _start(folder, config)
        _follow(run, Rows(folder, after))
        run.finish()
        if mode == "offline":
            say(f"wandb was offline; to look: wandb leet {folder}; to upload: {sync_line(folder, run)}")
        return 0
    except BaseException as error:
        return _again(config, error)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside, the relay of an earlier process of this run has finished; it is waited for as long as it may take."""
    fixed_id(folder, folder.name)
    with (folder / WANDB_ID).open("a") as file:
        for _ in range(FINISH_SECONDS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(1.0)
                continue
            except OSError:  # not every file system has locks
                pass
            break
        yield


def _start(folder: Path, config: RelayConfig) -> tuple[Any, str, int]:
    """(wandb's run, its mode, the last step that it has). Tells in one line where it could not be online."""
    identifier, trouble = fixed_id(folder, folder.name), ""
    if config.mode == "online":
        try:
            run = opened(folder, identifier, config.project, "online")
            return run, "online", run.step - 1
        except Exception as error:
            trouble = f"wandb online could not start ({first_line(error)})"
            _without_service()
    run = opened(folder, identifier, config.project, "offline")
    if trouble:
        say(f"{trouble}: it goes on offline; to upload: {sync_line(folder, run)}")
    return run, "offline", uploaded_until(folder, identifier)


def _without_service() -> None:
    """Ends wandb's service, which would hold on to the run that it could not start."""
    with suppress(Exception):
        import wandb

        wandb.teardown()


def _follow(run: Any, rows: Rows) -> None:
    """Sends rows until the run has ended and all were sent."""
    parent, ended = os.getppid(), False
    while not ended:
        ended = _waited() or os.getppid() != parent
        if ended:
            _give_up_in_time(rows.folder)
        for step, values in rows.new():
            run.log({name: _shown(value) if name == SAMPLES else value for name, value in values.items()}, step=step)


def _waited() -> bool:
    """Waits for a look's time; whether standard input has ended meanwhile: nothing is ever written to it."""
    ready, _, _ = select.select([sys.stdin], [], [], POLL)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1024)


def _shown(pages: list[Page]) -> Any:
    """A table of pages, what they say, and what was read."""
    import wandb

    table = wandb.Table(columns=["source", "page", "reference", "read", "precision", "edit_distance"])
    for page in pages:
        table.add_data(
            page.source, wandb.Image(str(page.picture)), page.reference, page.read, page.precision, page.edit_distance
        )
    return table


def _again(config: RelayConfig, error: BaseException) -> int:
    """In place of this process a new one, without anything that is left of wandb here; 1 when that was tried often enough."""
    if config.attempt == 1:
        say(f"wandb stopped ({first_line(error)}); training goes on, and what wandb misses is sent again")
    if config.attempt >= ATTEMPTS:
        say(f"wandb stopped {ATTEMPTS} times; metrics.jsonl goes on; to upload it later: python -m train.relay run={config.run}")
        os._exit(1)  # wandb's own end would wait for its service
    time.sleep(PAUSE * 2 ** (config.attempt - 1))
    given = [f"run='{config.run}'", f"mode={config.mode}", f"project='{config.project}'", f"attempt={config.attempt + 1}"]
    environment = {name: value for name, value in os.environ.items() if name != SERVICE}
    os.execve(sys.executable, [sys.executable, "-m", "train.relay", *given], environment)


def _give_up_in_time(folder: Path) -> None:
    def leave() -> None:
        say(f"wandb has not finished {FINISH_SECONDS} s after the run; to upload the rest: python -m train.relay run={folder}")
        os._exit(1)

    timer = threading.Timer(FINISH_SECONDS, leave)
    timer.daemon = True
    timer.start()


def _ignore_signals() -> None:
    """Those that ask a whole job to stop: the run decides when it ends, and this ends after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def say(text: str) -> None:
    """A line for a person, on the run's console."""
    with suppress(OSError):
        print(text, flush=True)


def first_line(error: BaseException) -> str:
    """An error in short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
