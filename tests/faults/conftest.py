"""Pages, a configuration of a few seconds, and runs of it that nothing happens to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import STEPS, Runs, losses
from tests.faults.injections import mount
from tests.train.shard_set import make_records, write_shard_set

Losses = dict[int, tuple[float, float, int]]
SETS = {"train/ratio-4": 40, "train/ratio-8": 40} | {f"held_out/{kind}": 4 for kind in ("ratio-4", "ratio-8", "random-4", "random-8")}


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shard sets as data=smoke wants them."""
    folder = tmp_path_factory.mktemp("faults") / "pages"
    for number, (name, count) in enumerate(SETS.items()):
        write_shard_set(folder / name, make_records(count, seed=number))
    return folder


@pytest.fixture(scope="session")
def runs(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Eight steps, a checkpoint after every other one, a look at held-out pages in the middle."""
    return Runs(
        [
            "stage=encoder", f"data.root={pages}", f"stage.steps={STEPS}", "stage.checkpoint_every=2", "stage.evaluate_every=4",
            "stage.evaluation_pages=2", "optim.warmup_steps=2", "data.global_batch=4", "data.micro_batch=2", "run.device=cpu",
            "run.timeout=30", "logger.console_every=1", "logger.wandb=disabled", "model.decoder.layers=2",
        ],
        tmp_path_factory.mktemp("said"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def uninterrupted(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Losses:
    """Losses of one process."""
    return _whole(runs, tmp_path_factory, 1)


@pytest.fixture(scope="session")
def uninterrupted_of_two(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Losses:
    """Losses of two data-parallel processes."""
    return _whole(runs, tmp_path_factory, 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which a test can fill."""
    with mount(tmp_path / "disk", "size=128m") as folder:
        yield folder
    shutil.rmtree(tmp_path / "disk", ignore_errors=True)


def _whole(runs: Runs, factory: pytest.TempPathFactory, world: int) -> Losses:
    done = runs.run(factory.mktemp(f"whole-{world}") / "run", world=world)
    assert done.codes == [0] * world, done.err()
    found = losses(done.folder)
    assert list(found) == list(range(1, STEPS + 1))
    return found
