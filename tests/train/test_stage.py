"""A stage as a user runs it: `python -m train` on real pages; killed, stopped, resumed, with equal losses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked

REPOSITORY = Path(__file__).parents[2]
STEPS = 12


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real pages of 64 pixels: 4 vision tokens."""
    from data_pipeline.build import build
    from data_pipeline.config import BuildConfig, CorpusConfig, PageConfig

    folder = tmp_path_factory.mktemp("stage") / "pages"
    corpus = CorpusConfig(
        held_out=["persuasion"], language="en", pages=96, held_out_pages=8, held_out_random_pages=8,
        shard_pages=48, prompt="", page=PageConfig(size=64),
    )  # fmt: skip
    build(BuildConfig(corpus=corpus, out=str(folder), workers=1))
    return folder


def command(pages: Path, directory: Path, *overrides: str) -> list[str]:
    """`python -m train` for a short run of the smoke model on 64-pixel pages, in two levels."""
    return [
        sys.executable, "-m", "train", "stage=encoder", f"data.root={pages}", "model.encoder.image_size=64",
        f"stage.steps={STEPS}", "stage.checkpoint_every=4", "stage.evaluate_every=3", "stage.evaluation_pages=4",
        "optim.warmup_steps=2", "data.global_batch=4", "data.micro_batch=2", "logger.console_every=1",
        "stage.curriculum.levels=[[ratio-4],[ratio-8]]", "stage.curriculum.max_steps=6", "logger.wandb=disabled",
        f"run.directory={directory}", "run.name=run", *overrides,
    ]  # fmt: skip


def run(arguments: list[str], world: int = 1, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command to its end, by as many processes as torchrun would start."""
    return forked.run(arguments[2:], world, variables=variables)


def run_as_srun(arguments: list[str], tasks: int) -> list[subprocess.CompletedProcess[str]]:
    """What `srun --ntasks TASKS` starts: processes that know nothing but Slurm's variables."""
    step = {"SLURM_NTASKS": str(tasks), "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NNODES": "1",
            "SLURM_JOB_NODELIST": "n1"}  # fmt: skip
    started = [
        subprocess.Popen(
            arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(tasks)
    ]  # fmt: skip
    said = [task.communicate(timeout=240) for task in started]
    return [subprocess.CompletedProcess(arguments, task.returncode, *words) for task, words in zip(started, said)]


def losses(directory: Path) -> dict[int, tuple[float, float, int]]:
    """step -> (loss, gradient norm, curriculum level), each step once."""
    rows = [json.loads(line) for line in (directory / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "grad_norm" in row]
    assert len({row["step"] for row in steps}) == len(steps), "a step is logged twice"
    return {row["step"]: (row["loss"], row["grad_norm"], row["level"]) for row in steps}


@pytest.fixture(scope="module")
def whole(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that went from its first step to its last, and was looked at on its way."""
    directory = tmp_path_factory.mktemp("whole")
    done = run(command(pages, directory, "logger.wandb=offline", "logger.samples=3"), WANDB_MODE="online")
    assert done.returncode == 0, done.stderr
    assert f"to look: wandb leet {directory}/run; to upload: wandb sync {directory}/run/wandb/offline-run-" in done.stdout
    return directory


@pytest.fixture(scope="module")
def uninterrupted(whole: Path) -> dict[int, tuple[float, float, int]]:
    found = losses(whole)
    assert list(found) == list(range(1, STEPS + 1))
    assert [found[1][2], found[STEPS][2]] == [0, 1], "the second level was not reached"
    return found


def test_what_a_run_logs_is_what_dashboards_show(whole: Path) -> None:
    """That its losses are those of runs without wandb and samples, the other tests show."""
    from tests.train.relay.wandb_files import history, records
    from train.dashboard.check import compared, logged_in
    from train.monitor.samples import read_pages
    from train.report.write import write_report

    findings = compared(logged_in([whole / "run"]))
    assert findings.sound, (findings.unknown, findings.unlogged)
    looks = sorted((whole / "run" / "samples").iterdir())
    assert [look.name for look in looks] == [f"step-{step:08d}" for step in (3, 6, 9, 12)]
    assert all(len(read_pages(look)) == 3 for look in looks)
    shown = history(whole / "run")
    assert [step for step, _ in shown] == list(range(1, STEPS + 1))
    assert [step for step, values in shown if "samples._type" in values] == [3, 6, 9, 12]
    assert [step for step, values in shown if "image_gain" in values] == [3, 6, 9, 12]
    assert "tokens" in shown[0][1] and records(whole / "run")[-1]["type"] == "exit"
    assert "Pages read while training" in write_report(whole / "run").read_text()


def start_and_wait(arguments: list[str], directory: Path, step: int, saved: int = 0) -> subprocess.Popen:
    """A run in the background that has logged `step` and, unless 0, written the checkpoint of step `saved`."""
    process = subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = directory / "run" / "metrics.jsonl"
    checkpoint = directory / "run" / "checkpoints" / f"step-{saved:08d}"
    deadline = time.monotonic() + 200
    while not (
        metrics.exists() and f'"step": {step},' in metrics.read_text() and (not saved or checkpoint.exists())
    ):
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be hit"
        time.sleep(0.01)
    return process


@pytest.mark.fault(
    "SIGKILL of a rank",
    injected="kill -9 of a single process after step 6",
    handled="the same command goes on from the newest checkpoint",
    lost="the steps since the last checkpoint, done again",
)
def test_killed_and_started_again_its_losses_are_bit_equal(
    pages: Path, tmp_path: Path, uninterrupted: dict[int, tuple[float, float, int]]
) -> None:
    arguments = command(pages, tmp_path)
    process = start_and_wait(arguments, tmp_path, step=6, saved=4)
    process.kill()
    process.wait()
    again = run(arguments)
    assert again.returncode == 0, again.stderr
    assert "resumed after step" in again.stdout
    assert losses(tmp_path) == uninterrupted


def test_asked_to_stop_it_saves_where_it_is_and_goes_on_from_there(
    pages: Path, tmp_path: Path, uninterrupted: dict[int, tuple[float, float, int]]
) -> None:
    arguments = command(pages, tmp_path, "stage.checkpoint_every=100")
    process = start_and_wait(arguments, tmp_path, step=5)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=100)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "stopped" and status["step"] >= 5
    again = run(arguments)
    assert f"resumed after step {status['step']}" in again.stdout, again.stderr
    assert losses(tmp_path) == uninterrupted


def test_a_flipped_byte_in_the_newest_checkpoint_costs_only_the_way_from_the_one_before(
    pages: Path, tmp_path: Path, uninterrupted: dict[int, tuple[float, float, int]]
) -> None:
    run(command(pages, tmp_path, f"stage.steps={STEPS}"))
    newest = tmp_path / "run" / "checkpoints" / f"step-{STEPS:08d}"
    victim = next(newest.glob("*.distcp"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    again = run(command(pages, tmp_path))
    assert again.returncode == 0, again.stderr
    assert victim.name in again.stderr and "refused" in again.stderr
    assert "resumed after step 8" in again.stdout
    assert losses(tmp_path) == uninterrupted


def test_two_data_parallel_processes_train_as_one(
    pages: Path, tmp_path: Path, uninterrupted: dict[int, tuple[float, float, int]]
) -> None:
    """The same global batches on two ranks: losses and norms to fp32 rounding, which training amplifies (1e-3)."""
    done = run(command(pages, tmp_path), 2)
    assert done.returncode == 0, done.stderr
    for step, (loss, norm, level) in losses(tmp_path).items():
        assert (loss, norm, level) == pytest.approx(uninterrupted[step], rel=1e-3)


def test_another_run_goes_on_from_a_checkpoint_in_another_layout(
    pages: Path, tmp_path: Path, whole: Path, uninterrupted: dict[int, tuple[float, float, int]]
) -> None:
    """Saved by one process, resumed by a pipeline of two under srun: the same losses on the same pages."""
    checkpoints = whole / "run" / "checkpoints"
    more = ("parallel=pp2", "data.micro_batch=1")
    done, other = run_as_srun(command(pages, tmp_path, *more, f"resume={checkpoints}/step-00000008"), 2)
    assert done.returncode == other.returncode == 0, done.stderr + other.stderr
    assert other.stdout == "", "only rank 0 tells"
    assert f"resumed after step 8 of {checkpoints}/step-00000008, saved on one process; it goes on on pipeline 2" in done.stdout
    found = losses(tmp_path)
    assert list(found) == [9, 10, 11, 12]
    for step, values in found.items():
        assert values == pytest.approx(uninterrupted[step], rel=1e-3)
    again = run(command(pages, tmp_path, *more, f"resume={whole}/run"), 2)
    assert again.returncode == 0, again.stderr
    assert f"resumed after step 12 of {tmp_path}" in again.stdout, "the run's own checkpoint is as late, and wins"
    assert "its last step (stage.steps=12)" in again.stdout
    assert losses(tmp_path) == found


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stage.frozen=[encoder.windows]", "encoder.window,"),
        ("data.root=nowhere", "data_pipeline.build"),
        ("stage.start_from=nowhere", "nowhere"),
        ("model.decoder.vocab_size=100", "model.decoder.vocab_size=272"),
    ],
)
def test_a_mistake_is_answered_by_one_message(pages: Path, tmp_path: Path, override: str, told: str) -> None:
    done = run(command(pages, tmp_path, override))
    assert done.returncode == 2
    assert told in done.stderr and "Traceback" not in done.stderr


def test_an_earlier_stage_gives_its_weights(pages: Path, tmp_path: Path) -> None:
    """The second stage begins near where the first ended, with the frozen parts as they were."""
    import torch.distributed.checkpoint as dcp

    first, second = tmp_path / "first", tmp_path / "second"
    assert run(command(pages, first)).returncode == 0
    done = run(command(pages, second, "stage=pretrain", f"stage.start_from={first}/run/checkpoints"))
    assert done.returncode == 0, done.stderr
    ended, began = losses(first)[STEPS][0], losses(second)[1][0]
    assert began < losses(first)[1][0] - 1 and abs(began - ended) < 1
    values = {}
    for folder in (first, second):
        newest = max((folder / "run" / "checkpoints").glob("step-*"))
        reader = dcp.FileSystemReader(newest)
        names = ("model.encoder.compressor.conv1.weight", "model.encoder.projector.weight")
        sizes = {name: reader.read_metadata().state_dict_metadata[name].size for name in names}
        import torch

        values[folder] = {name: torch.empty(sizes[name]) for name in names}
        dcp.load(values[folder], storage_reader=dcp.FileSystemReader(newest), no_dist=True)
    frozen, trained = "model.encoder.compressor.conv1.weight", "model.encoder.projector.weight"
    assert values[first][frozen].equal(values[second][frozen])
    assert not values[first][trained].equal(values[second][trained])
    assert os.path.exists(second / "run" / "config.yaml")
