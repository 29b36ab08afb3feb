"""The two runs that `benchmarks.monitoring` compares, each alone in a process: `python -m benchmarks.monitored on|off …` is a stage
as `python -m train` runs it, which makes a step whenever the parent asks (`benchmarks.turns`).

off: nothing looks at a step, and nothing is written of it. on: everything that may, and the time that its parts take by themselves.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.turns import SENT
from conf.compose import compose
from train.config import Config

# What of it is called where it cannot be seen in observers: name -> module and attribute
INSIDE = {
    "loss by kind, in the objective": ("train.objective.next_token", "strata_sums"),
    "experts, in routers": ("parallel.layers.tally", "add"),
    "gradients, before the update": ("parallel.magnitudes", "Magnitudes._begin"),
    "gradients, after the update": ("parallel.magnitudes", "Magnitudes._end"),
    "metrics.jsonl, console and wandb": ("train.monitor.monitor", "Monitor.step"),
}
EVER = 10**6  # steps


def main() -> None:
    """Runs the stage until the parent is gone."""
    options = parser().parse_args()
    from parallel.topology import Topology, start
    from train.launch.signals import StopFlag

    with StopFlag() as stop:
        start(Topology(), seed=0)
        gate = Gate()
        watch(gate, options.which == "on")
        from train import stage

        stage.run(configured(options), stop)


def parser() -> argparse.ArgumentParser:
    """What both processes are told."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("which", choices=["on", "off"])
    made.add_argument("--pages", required=True, help="folder of shard sets")
    made.add_argument("--folder", required=True, help="for the run")
    made.add_argument("--model", default="small")
    made.add_argument("--rows", type=int, default=2)
    return made


def configured(options: argparse.Namespace) -> Config:
    """Everything that a run with logger=wandb has, or nothing of it; no probes, no saves, data made in the step."""
    is_on = options.which == "on"
    wandb = "offline" if is_on and find_spec("wandb") else "disabled"
    return compose(
        "config",
        Config,
        [
            f"model={options.model}", "stage=pretrain", "stage.frozen=[]", f"stage.steps={EVER}", "stage.evaluate_every=0",
            "stage.checkpoint_every=0", "stage.evaluation_pages=2", f"data.root={options.pages}", "data.prefetch=0",
            f"data.global_batch={options.rows}", f"data.micro_batch={options.rows}", f"logger.wandb={wandb}",
            f"run.directory={options.folder}", f"run.name={options.which}", *([] if is_on else ["logger.details_every=0"]),
        ],
    )  # fmt: skip


class Gate:
    """An observer, the first of all, at which a step waits until the parent asks for it. A step ends where the next one waits."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._parts: dict[str, float] = {}

    def before(self, step: int) -> None:
        """Answers with the last step's processor seconds, then waits."""
        seconds = None if self._began is None else time.process_time() - self._began
        told = {"seconds": seconds, "parts": dict(self._parts), "beside": beside()}
        print(SENT + json.dumps(told), flush=True)
        if not sys.stdin.readline():
            raise SystemExit
        self._parts.clear()
        self._began = time.process_time()

    def after(self, look: Any) -> Mapping[str, Any]:
        """Nothing to tell."""
        return {}

    def close(self) -> None:
        """Nothing to do."""

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose processor seconds are counted under `name`."""

        def called(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._parts[name] = self._parts.get(name, 0.0) + time.process_time() - began

        return called


def beside() -> float:
    """Processor seconds so far of processes that this one has started, such as wandb's."""
    import psutil

    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in times)


def watch(gate: Gate, is_on: bool) -> None:
    """Puts the gate before the observers of a stage; takes these away, or times each part."""
    from train import stage
    from train.monitor.monitor import Monitor

    own = stage.observers_of

    def observed(*args: Any) -> list[Any]:
        return [gate, *(timed(gate, own(*args)) if is_on else [])]

    stage.observers_of = observed
    if not is_on:
        Monitor.step = lambda *_: None  # type: ignore[method-assign]
        return
    for name, (module, attribute) in INSIDE.items():
        owner: Any = import_module(module)
        *classes, last = attribute.split(".")
        for one in classes:
            owner = getattr(owner, one)
        setattr(owner, last, gate.timed(name, getattr(owner, last)))


def timed(gate: Gate, observers: list[Any]) -> list[Any]:
    """The same observers, whose calls are counted by the names of their classes."""
    for observer in observers:
        parts = getattr(observer, "_parts", None)
        for one in parts if type(observer).__name__ == "Ranks" else [observer]:
            for method in ("before", "after", "begin", "see", "values", "judge"):
                if hasattr(one, method):
                    setattr(one, method, gate.timed(type(one).__name__, getattr(one, method)))
    return observers


if __name__ == "__main__":
    main()
