"""One sandbox and one set of pages for all tests of this folder."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import REPOSITORY, Cluster

NODES, PORT = 5, 17817
PAGES = (
    "corpus=smoke", "corpus.pages=96", "corpus.held_out_pages=8", "corpus.held_out_random_pages=8", "corpus.shard_pages=48",
)  # fmt: skip


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Real daemons. Where they are not installed, tests are skipped; not so in continuous integration."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        why = f"not installed: {', '.join(missing)}. On Debian: sudo apt-get install slurmctld slurmd slurm-client munge"
        if os.environ.get("CI") or os.environ.get("MICROFICHE_REQUIRE_SLURM"):
            pytest.fail(f"{why}. This must not be skipped here.")
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # short: sockets have names of 108 bytes at most
        cluster = Cluster(Path(folder) / "box", NODES, PORT)
        cluster.sandbox("up")
        try:
            yield cluster
        finally:
            cluster.sandbox("down")


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of 64 pixels, built by one process."""
    out = tmp_path_factory.mktemp("slurm") / "pages"
    subprocess.run([sys.executable, "-m", "data_pipeline.build", *PAGES, f"out={out}", "workers=1"], cwd=REPOSITORY, check=True)
    return out
