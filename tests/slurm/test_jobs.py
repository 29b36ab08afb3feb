"""The job scripts as users submit them, to real daemons: preempted, crashed, robbed of a node, and what is lost (nothing).

All jobs are submitted at once and run beside each other; the tests then look at what became of each.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.cluster import PATIENCE, REPOSITORY, Cluster, Job, until
from tests.slurm.conftest import PAGES

SCRIPTS = REPOSITORY / "slurm"
PRETRAIN = str(SCRIPTS / "pretrain.sh")
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")  # the rest of the header stands
BESIDE = "--exclude=n[1-2]"  # where the first job runs, until it loses a node
ONE = (BESIDE, "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")
STEPS = 140
RESUMED_WITHIN = 30.0  # seconds from requeue to the next step, on a machine that does nothing else


def training(pages: Path, steps: int = STEPS) -> list[str]:
    """Overrides of a short run of the smallest model."""
    return [
        "stage=encoder", f"data.root={pages}", f"stage.steps={steps}", "stage.checkpoint_every=10", "stage.evaluate_every=1000",
        "stage.evaluation_pages=4", "data.global_batch=4", "data.micro_batch=2", "optim.warmup_steps=2",
    ]  # fmt: skip


@dataclass(frozen=True)
class Story:
    """The jobs by name, and what is being done to two of them meanwhile."""

    jobs: dict[str, Job]
    hit: Future[dict[str, float]]
    interrupted: Future[int]

    def __getitem__(self, name: str) -> Job:
        return self.jobs[name]


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Every job of this file. The first is meant to be hit; those after it run beside."""
    folder = tmp_path_factory.mktemp("jobs")
    broken = folder / "broken" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')\n")

    def submit(*command: str, **more: str) -> Job:
        return cluster.submit(folder, *command, **more)

    found = {"hit": submit("--partition=low", *TWO_NODES, PRETRAIN, *training(pages))}
    found["whole"] = submit(BESIDE, *TWO_NODES, PRETRAIN, *training(pages))
    first = found["whole"].number
    found["next"] = submit(
        f"--dependency=afterok:{first}", *ONE, PRETRAIN, *training(pages, 100_000), "stage=pretrain", f"from=runs/pretrain-{first}",
        "run.name=next", run="runs/next",
    )  # fmt: skip
    found["mistaken"] = submit(BESIDE, *TWO_NODES, PRETRAIN, *training(folder / "nowhere"))
    found["after it"] = submit(f"--dependency=afterok:{found['mistaken'].number}", *ONE, PRETRAIN, *training(pages))
    found["broken"] = submit(*ONE, PRETRAIN, *training(pages), PYTHONPATH=str(folder / "broken"))
    array = (BESIDE, "--array=3-5", "--cpus-per-task=1", str(SCRIPTS / "build_data.sh"))
    found["build"] = submit(*array, *PAGES, "out=built", run="built")
    found["evaluate"] = submit(
        f"--dependency=afterok:{first}", *ONE, str(SCRIPTS / "evaluate.sh"), f"checkpoint=runs/pretrain-{first}", "pages=2", "out=measured",
    )  # fmt: skip
    of_a_stage = ",".join(training(pages, 4)[1:])
    found["recipe"] = submit(*ONE, str(SCRIPTS / "recipe.sh"), "steps=[encoder,report]", "recipe=smoke", f"common=[{of_a_stage}]")
    with ThreadPoolExecutor() as pool:
        yield Story(found, pool.submit(hit, found["hit"], cluster), pool.submit(interrupt, found["next"], cluster))


def hit(job: Job, cluster: Cluster) -> dict[str, float]:
    """What is done to the first job: its shell is signalled, a rank dies, the job is preempted, a node dies. Seconds that things took."""
    until(lambda: job.step >= 15, "step 15")
    cluster.call("scancel", "--batch", "--signal=TERM", str(job.number))  # the job's shell, which must live
    job.kill_rank(1)
    until(lambda: job.status.get("restarts") == 1 and job.step >= 25, "step 25 after a new start in the allocation")
    cluster.submit(job.folder, f"--nodelist={job.shown('NodeList')}", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=8", "--wrap=true")
    until(lambda: "queued again" in job.events[-1], "saved and queued again")
    saved, step, started = job.status["saved_seconds"], job.step, time.monotonic()
    until(lambda: job.step > step, "a step after the preemption")
    resumed = time.monotonic() - started
    cluster.sandbox("crash", "n" + re.findall(r"\d+", job.shown("NodeList"))[-1])
    print(f"signal to saved {saved} s; requeue to next step {resumed:.1f} s")
    return {"saved": saved, "resumed": resumed}


def interrupt(job: Job, cluster: Cluster) -> int:
    """USR1 to a rank that is still importing; the step that it saved then."""
    until(lambda: job.ranks(0) and signals_are_caught(job.ranks(0)[0]), "the second stage starts", 2 * PATIENCE)
    assert not job.status, "it has begun to train already"
    cluster.call("scancel", "--signal=USR1", str(job.number))
    until(lambda: job.shown("Restarts") == "1", "saved, queued again")
    return job.step


def test_a_job_with_the_header_as_it_is_runs_to_its_end(jobs: Story) -> None:
    job = jobs["whole"]
    assert job.wait() == "COMPLETED", job.log
    assert job.status["state"] == "finished" and job.status["restarts"] == 0 and job.status["saved_step"] == STEPS
    assert job.events[0].startswith("starts, 2 processes on n[") and job.events[1:] == ["finished"]
    assert [row["step"] for row in job.rows] == list(range(1, STEPS + 1))


@pytest.mark.fault(
    "node loss",
    injected="under real Slurm daemons: a rank is killed, then the job preempted, then slurmd of a node and all that it "
    "started killed",
    handled="started again in the allocation, requeued by its script, requeued by Slurm; each time from the newest checkpoint",
    lost="the steps since the last checkpoint, done again",
)
def test_hit_by_all_that_clusters_do_its_losses_are_bit_equal(jobs: Story) -> None:
    """A rank killed, preempted, a node lost: nothing differs from the run that nothing befell."""
    job = jobs["hit"]
    jobs.hit.result()
    assert job.wait() == "COMPLETED", job.log
    jobs["whole"].wait()
    keys = ("step", "loss", "grad_norm", "batch", "tokens")
    assert [[row[key] for key in keys] for row in job.rows] == [[row[key] for key in keys] for row in jobs["whole"].rows]


def test_each_blow_is_told_in_a_line(jobs: Story) -> None:
    jobs.hit.result()
    jobs["hit"].wait()
    events = "\n".join(jobs["hit"].events)
    assert re.search(
        r"starts, .*\ncrashed \(PeerLost.*; starts again in this allocation\nstart 2, .*\n"
        r"SIGTERM: saved at step \d+, [\d.]+ s after the signal; queued again\nstart 3, ",
        events,
    ), events
    assert "Slurm took its nodes away" in events and events.endswith("finished"), events
    assert int(jobs["hit"].shown("Restarts")) == 2


def test_it_saves_and_resumes_quickly(jobs: Story) -> None:
    busy = max(1.0, os.getloadavg()[0] / 4)  # other tests take their share of the cores
    took = jobs.hit.result()
    assert took["resumed"] <= RESUMED_WITHIN * busy
    assert took["saved"] <= 10 * busy


def test_a_mistake_ends_the_job_at_once_and_what_waited_for_it(jobs: Story) -> None:
    job = jobs["mistaken"]
    assert job.wait() == "FAILED"
    assert job.shown("Restarts") == "0" and len(job.events) == 2
    assert job.events[1].startswith("not started again, as the same would happen: ") and "nowhere" in job.events[1]
    assert "data_pipeline.build" in job.log, "it does not say how pages are made"
    assert jobs["after it"].wait() == "CANCELLED" and not jobs["after it"].log


@pytest.mark.fault(
    "crash loop",
    injected="under real Slurm daemons: torch cannot be imported",
    handled="tried three times without progress, then the job ends and says why",
    lost="nothing",
)
def test_a_crash_before_anything_is_written_is_tried_three_times(jobs: Story) -> None:
    job = jobs["broken"]
    assert job.wait() == "FAILED"
    assert job.shown("Restarts") == "1", "once in its allocation, once in another"
    assert "3 times in a row without a new checkpoint: gives up" in job.events[-1]
    assert sum(event.startswith("start") for event in job.events) == 3


def test_an_array_builds_what_one_process_builds(jobs: Story, pages: Path) -> None:
    job = jobs["build"]
    manifests = [path.relative_to(pages) for path in pages.rglob("manifest.json")]
    until(lambda: all((job.folder / job.run / path).exists() for path in manifests), "the last task completes the sets")
    for path in [*manifests, *(path.relative_to(pages) for path in pages.rglob("*.tar"))]:
        assert digest(job.folder / job.run / path) == digest(pages / path)
    from data_pipeline.manifest import Manifest, verify

    for path in manifests:
        built = job.folder / job.run / path.parent
        assert verify(built, Manifest.load(built)) == []


def test_a_stage_begins_after_the_one_before_it_survives_a_signal_while_it_imports_and_ends_when_cancelled(jobs: Story, cluster: Cluster) -> None:
    job, saved = jobs["next"], jobs.interrupted.result()
    assert job.events[1].startswith(f"SIGUSR1: saved at step {saved}, ")
    until(lambda: job.step > saved + 2, "steps after that")
    cluster.call("scancel", str(job.number))
    assert job.wait() == "CANCELLED"
    until(lambda: job.status["state"] == "stopped", "saved")
    assert job.status["signal"] == "SIGTERM" and job.status["saved_step"] == job.step > saved


def test_an_evaluation_and_a_recipe_are_jobs_too(jobs: Story) -> None:
    for name, written in (("evaluate", "measured/metrics.json"), ("recipe", f"runs/recipe-{jobs['recipe'].number}/report.html")):
        job = jobs[name]
        assert job.wait() == "COMPLETED", job.log
        assert (job.folder / written).exists() and job.events[-1] == "finished"


def test_slurm_and_our_commands_take_what_the_page_about_clusters_says(cluster: Cluster, tmp_path: Path) -> None:
    """Each `sbatch` of README.md and docs/cluster.md, for as many nodes as there are here."""
    pages = [REPOSITORY / "README.md", REPOSITORY / "docs" / "cluster.md"]
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")
    typed = re.findall(r"^(?:\w+=\$\()?sbatch (.*?)(?:\)|#.*)?$", text, re.MULTILINE)
    assert len(typed) >= 8
    for line in typed:
        flags, script, overrides = re.fullmatch(r"(.*?)(slurm/\w+\.sh)\s*(.*)", line).groups()  # type: ignore[union-attr]
        flags = flags.replace("=20", "=2").replace("=8", "=2", 1).replace("=gpu", "=main").replace("--dependency=afterok:$first", "").replace("--parsable", "")
        done = cluster.call("sbatch", "--test-only", *flags.split(), script)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert composed(script, overrides.split()) == 0, line


def composed(script: str, overrides: list[str]) -> int:
    """The exit code of the script's command for these overrides, without running it."""
    from conf.command import run
    from data_pipeline.config import BuildConfig
    from train.__main__ import SHORT
    from train.config import Config, RecipeConfig
    from train.evaluate.config import EvaluateConfig

    name, schema = {
        "pretrain": ("config", Config), "recipe": ("recipe", RecipeConfig), "evaluate": ("evaluate", EvaluateConfig), "build_data": ("build", BuildConfig),
    }[Path(script).stem]  # fmt: skip
    return run(lambda config: 0, name, schema, overrides, short=SHORT)


def signals_are_caught(process: int) -> bool:
    """Whether its handler of USR1 is in place."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return bool(caught and int(caught[1], 16) >> 9 & 1)


def digest(path: Path) -> str:
    """sha256 of a file; of a manifest, without the folder it was built in."""
    content = path.read_bytes()
    if path.name == "manifest.json":
        content = json.dumps(json.loads(content), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()
