"""Node lists as Slurm writes them, and what every task of a step concludes from them."""

import pytest

from parallel import rendezvous
from parallel.rendezvous import first_host, meeting_point


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("n1,n2", "n1"),
        ("n[1-4]", "n1"),
        ("gpu-[007-012,020],login1", "gpu-007"),
        ("gpu-[3,5-6]", "gpu-3"),
        ("rack[2-3]-node[04-05,9]", "rack2-node04"),
        ("a-b.example,c", "a-b.example"),
        ("cn[10]-ib", "cn10-ib"),
    ],
)
def test_the_first_host_of_a_node_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_tasks_of_a_step_meet_on_its_first_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous.socket, "getaddrinfo", lambda *_: [])
    step = {"SLURM_JOB_NODELIST": "n[1-4]", "SLURM_STEP_NODELIST": "n[3-4]", "SLURM_STEP_NUM_NODES": "2",
            "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "1"}  # fmt: skip
    assert meeting_point(step) == {"MASTER_ADDR": "n3", "MASTER_PORT": "27111"}
    assert meeting_point(step | {"SLURM_RESTART_COUNT": "1"})["MASTER_PORT"] == "27112"
    assert 20000 <= int(meeting_point(step | {"SLURM_JOB_ID": "98765432"})["MASTER_PORT"]) < 40000


def test_one_node_needs_no_name_and_what_is_set_stays() -> None:
    step = {"SLURM_JOB_NODELIST": "unresolvable", "SLURM_NNODES": "1", "SLURM_JOB_ID": "1"}
    assert meeting_point(step)["MASTER_ADDR"] == "127.0.0.1"
    assert meeting_point(step | {"MASTER_ADDR": "a", "MASTER_PORT": "5"}) == {}
    assert meeting_point({}) == {}


def test_a_name_that_does_not_resolve_becomes_the_address_that_slurm_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "NodeName=$3 NodeAddr=10.1.2.3 NodeHostName=$3 Port=0"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def unknown(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(rendezvous.socket, "getaddrinfo", unknown)
    step = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2"}
    assert meeting_point(step) == {"MASTER_ADDR": "10.1.2.3"}
