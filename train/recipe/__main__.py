"""`python -m train.recipe recipe=smoke`: a chain of steps, from documents to a report, that stops and resumes
anywhere.

Each step is what its own command does. `recipe.json` in the recipe's folder keeps how far it has come; the
same command again skips what is done and resumes what was interrupted. Under torchrun or srun all processes
run the recipe; the first one builds the pages.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from conf.command import run
from parallel.determinism import reproducible
from parallel.topology import environment
from train.config import ParallelConfig, RecipeConfig, RunConfig
from train.launch.launcher import launch
from train.launch.peers import ending_with_lost_peers
from train.launch.signals import StopFlag
from train.layout import topology_of
from train.recipe.apart import run_apart
from train.recipe.plan import folder_of, plan, process_count
from train.recipe.state import Ledger
from train.recipe.step import Step

DESCRIPTION = """Runs a chain of steps: builds pages, trains stage after stage, evaluates, and writes a report.
The same command again skips finished steps and resumes the interrupted one."""
EXAMPLES = (
    "python -m train.recipe recipe=smoke",
    "python -m train.recipe name=quick build.overrides=[corpus.pages=2000] common=[stage.steps=100]",
    "python -m train.recipe name=hot stages.encoder.overrides=[optim.lr=8e-3,seed=1]",
    "python -m train.recipe name=again steps=[encoder,report] common=[data.root=runs/smoke/pages]",
    "python -m train.recipe processes=2                # two data-parallel processes on this machine",
)

LONGEST_BUILD = timedelta(days=7)  # that the other ranks wait while the first one builds pages
GOODBYE = timedelta(seconds=10)  # that it waits for them when it has failed


def check(config: RecipeConfig) -> None:
    """Composes every step, so that no mistake waits for its turn."""
    plan(config, _world(config))


def main(config: RecipeConfig) -> int:
    """Runs what is not done yet; the exit code is 0, or 128 + the signal that stopped it."""
    rank, world, _ = environment()
    processes = _world(config)
    steps = plan(config, processes)
    ledger = Ledger(folder_of(config), config.name, steps, writes=rank == 0)
    again = ledger.check(steps, config.restart)
    if processes > world:
        return _relaunch(processes, config.overrides)
    exact = any(step.config.deterministic for step in steps if step.is_stage)
    with StopFlag() as stop, ending_with_lost_peers("python -m train.recipe", rank, _timeout(steps)), reproducible(exact):
        return _Recipe(steps, ledger, stop, rank, world).run(again)


class _Recipe:
    """The steps on the way, in this process."""

    def __init__(self, steps: list[Step], ledger: Ledger, stop: StopFlag, rank: int, world: int) -> None:
        self.steps, self.ledger, self.stop, self.rank, self.world = steps, ledger, stop, rank, world
        self.joined, self.meetings = False, 0

    def run(self, again: Sequence[Step]) -> int:
        """Runs the steps in order, those in `again` from nothing; returns the exit code."""
        waiting = [step for step in self.steps if step in again or not self.ledger.is_done(step)]
        try:
            for number, step in enumerate(self.steps, 1):
                self.label = f"[{number}/{len(self.steps)}] {step.name:9}"
                if step not in waiting:
                    self._say(f"done before, {_duration(self.ledger.seconds(step))}: {step.output}")
                    continue
                if not self._run_step(step, afresh=step in again):
                    self._say("stopped by a signal, its state is saved: the same command goes on from here")
                    return 128 + int(self.stop.signal or 0)
        finally:
            if self.joined:
                from parallel.topology import stop as leave

                leave()
        return 0

    def _run_step(self, step: Step, afresh: bool) -> bool:
        """One step from start to end; False when a signal stopped it."""
        if step.name != "report" and not step.command:
            self._join(step)
        if afresh:
            self.ledger.forget(step)
            self._clear(step)
        self._say("goes on" if self.ledger.is_begun(step) else "starts")
        self.ledger.begin(step)
        finished = False
        try:
            finished = self._perform(step, afresh)
        finally:
            self.ledger.end(step, "done" if finished else "interrupted")
        if finished:
            self._say(f"done in {_duration(self.ledger.seconds(step))}: {step.output}")
        return finished

    def _perform(self, step: Step, afresh: bool) -> bool:
        """What the step's own command does. Each branch imports what it needs, and no more."""
        if step.is_stage:
            from train import stage

            return stage.run(step.config, self.stop, step.config.overrides).finished
        if step.name == "evaluate":
            from train.evaluate.command import evaluate_run

            evaluate_run(step.config)
        elif step.name == "compare":
            from train.recipe.compare import compare_stages

            compare_stages(
                step, [other for other in self.steps if other.is_stage or other.name in ("merge", "export")]
            )
        elif self.rank == 0:
            try:
                self._alone(step, afresh)
            except BaseException:
                self._wait_for_all(failed=True)
                raise
        self._wait_for_all()
        return not self.stop.requested

    def _alone(self, step: Step, afresh: bool) -> None:
        """A step that one process does while the others wait."""
        if step.name == "build":
            from data_pipeline.build import build

            step.config.overwrite |= afresh
            build(step.config)
        elif step.command:
            run_apart(step)
        else:
            from train.report.write import write_report

            write_report(step.output.parent)

    def _join(self, step: Step) -> None:
        """Starts the process groups, once (torch cannot start them twice under one launcher), and seeds this
        step as a fresh process would.

        One process builds its pages without them: no torch in memory while all cores render.
        """
        if step.name == "build" and self.world == 1:
            return
        from parallel import topology

        if not self.joined:
            self.joined = True
            sizes = next((other.config.parallel for other in self.steps if other.is_stage), ParallelConfig())
            topology.start(
                topology_of(sizes, self.world),
                getattr(step.config, "seed", 0),
                timeout_seconds=_timeout(self.steps),
            )
        else:
            topology.seed_everything(getattr(step.config, "seed", 0))

    def _wait_for_all(self, failed: bool = False) -> None:
        """Until the first process has done what it does alone, however long that takes; a collective call would give
        up after the timeout of a step. Where it `failed`, it says why, and the others end without a word."""
        if not self.joined:
            return
        import torch.distributed as dist

        store, self.meetings = dist.distributed_c10d._get_default_store(), self.meetings + 1
        meeting = f"recipe {self.meetings}"
        others = [f"{meeting}, {rank} knows" for rank in range(1, self.world)]
        if self.rank == 0:
            store.set(meeting, "failed" if failed else "done")
            if failed:
                with suppress(dist.DistError):
                    store.wait(others, GOODBYE)  # the store ends with this process
                return
        else:
            store.wait([meeting], LONGEST_BUILD)
            if store.get(meeting) == b"failed":
                store.set(others[self.rank - 1], "goodbye")
                sys.exit(1)
        dist.barrier()

    def _clear(self, step: Step) -> None:
        """Removes what an earlier run of a stage left, which would be resumed otherwise, and what was measured of it."""
        if (step.is_stage or step.name == "compare") and self.rank == 0:
            shutil.rmtree(step.output.parent, ignore_errors=True)
        self._wait_for_all()

    def _say(self, text: str) -> None:
        if self.rank == 0:
            print(f"{self.label} {text}", flush=True)


def _timeout(steps: Sequence[Step]) -> float:
    """Seconds that a process waits for another: the longest run.timeout of the stages."""
    return max([step.config.run.timeout for step in steps if step.is_stage], default=RunConfig().timeout)


def _world(config: RecipeConfig) -> int:
    """Processes that will run the recipe: those that a launcher started, else those that `processes` asks
    for.
    """
    launched = "RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    return environment()[1] if launched else process_count(config)


def _relaunch(processes: int, overrides: Sequence[str]) -> int:
    """Runs the recipe in so many processes, which share the cores; their exit code."""
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    print(f"{processes} processes, {os.environ['OMP_NUM_THREADS']} thread(s) each", flush=True)
    return launch(["-m", "train.recipe", *overrides], processes)


def _duration(seconds: float) -> str:
    """12 s, or 3 min 20 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


if __name__ == "__main__":
    sys.exit(run(main, "recipe", RecipeConfig, None, DESCRIPTION, EXAMPLES, check, name_option="name"))
