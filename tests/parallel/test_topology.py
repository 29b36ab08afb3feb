import subprocess
import sys

import pytest
from ranks import launch

from parallel.errors import ParallelError, UnsupportedLayout
from parallel.options import EngineOptions, check
from parallel.topology import Topology, environment


def test_what_tensor_and_pipeline_leave_over_is_data_parallel():
    assert Topology.of_world(12, tensor=2, pipeline=3) == Topology(tensor=2, pipeline=3, data=2)
    assert Topology(tensor=2, pipeline=3, data=2).world == 12


@pytest.mark.parametrize(
    ("world", "sizes", "advice"),
    [
        (4, {"tensor": 3}, "multiple of 3"),
        (1, {"pipeline": 2}, "multiple of 2"),
        (4, {"expert": 3}, "parallel.expert=2"),
        (4, {"tensor": 0}, "parallel.tensor=1"),
        (4, {"virtual": 2}, "parallel.virtual=1"),
        (4, {"pipeline": 2, "virtual": 0}, "parallel.virtual=1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_advice(world, sizes, advice):
    with pytest.raises(UnsupportedLayout, match=advice):
        Topology.of_world(world, **sizes)


@pytest.mark.parametrize(
    ("topology", "options", "advice"),
    [
        (Topology(), EngineOptions(zero=0), "engine.zero=1"),
        (Topology(), EngineOptions(zero=4), "engine.zero=1"),
        (Topology(), EngineOptions(precision="fp16"), "engine.precision=fp32"),
        (Topology(), EngineOptions(clip=-1.0), "engine.clip"),
        (Topology(), EngineOptions(clip=float("nan")), "engine.clip"),
        (Topology(pipeline=2), EngineOptions(zero=2), "engine.zero=1"),
        (Topology(pipeline=2), EngineOptions(zero=3), "engine.zero=1"),
        (Topology(expert=2, data=2), EngineOptions(zero=3), "engine.zero=2"),
    ],
)
def test_engine_options_that_cannot_work_are_refused_with_advice(topology, options, advice):
    with pytest.raises(UnsupportedLayout, match=advice):
        check(topology, options)


def test_checking_a_layout_loads_no_torch():
    code = "import sys, parallel, parallel.options, parallel.topology; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def launcher(monkeypatch):
    """Sets exactly the given launcher variables."""

    def set_only(**values: str) -> None:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_only


def test_the_rank_comes_from_torchrun_else_from_srun_else_there_is_one_process(launcher):
    slurm = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    launcher()
    assert environment() == (0, 1, 0)
    launcher(**slurm)
    assert environment() == (5, 8, 1)
    launcher(RANK="2", WORLD_SIZE="4", LOCAL_RANK="2", **slurm)
    assert environment() == (2, 4, 2)


def test_nonsense_from_a_launcher_is_named(launcher):
    launcher(RANK="x", WORLD_SIZE="2")
    with pytest.raises(ParallelError, match="RANK='x'"):
        environment()
    launcher(RANK="3", WORLD_SIZE="2")
    with pytest.raises(ParallelError, match="outside WORLD_SIZE=2"):
        environment()


def begin(topology):
    """The message start fails with."""
    from parallel.topology import start

    try:
        start(topology, seed=0)
    except ParallelError as error:
        return str(error)
    return ""


def test_a_launch_of_another_size_is_refused_before_anything_starts():
    assert "needs 2 processes, 1 were started" in launch(begin, 1, Topology(data=2))[0]


def start_twice_under_srun():
    """Start, look, stop, and start again in one process, as srun sets the environment."""
    import os

    import torch
    import torch.distributed as dist

    from parallel.topology import start, stop

    for slurm, ours in (("PROCID", "RANK"), ("NTASKS", "WORLD_SIZE"), ("LOCALID", "LOCAL_RANK")):
        os.environ[f"SLURM_{slurm}"] = os.environ.pop(ours)
    seen = []
    for _ in range(2):
        start(Topology(data=2), seed=3)
        total = torch.ones(1)
        dist.all_reduce(total)
        seen.append((dist.get_backend(), total.item(), torch.rand(2).tolist()))
        stop()
        stop()
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    return seen


def test_ranks_meet_draw_the_same_numbers_and_can_start_again():
    first, second = launch(start_twice_under_srun, 2)
    assert first == second
    assert first[0] == first[1]
    if first[0][0] == "gloo":
        assert first[0][1] == 2.0
