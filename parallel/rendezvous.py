"""Where the processes of an srun step meet, when nobody has said so. Loads nothing heavy.

torchrun sets MASTER_ADDR and MASTER_PORT. srun does not; but each task knows the step's nodes, of which the first runs
rank 0, and the job's number.
"""

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping

NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
COUNTS = ("SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
FIRST_PORT, PORTS = 20000, 20000  # below the ephemeral ports, above the registered services


def meeting_point(environment: Mapping[str, str]) -> dict[str, str]:
    """MASTER_ADDR and MASTER_PORT, as far as they are not set and Slurm's variables tell them; the same on all tasks."""
    found = {}
    nodes = next((environment[name] for name in NODES if environment.get(name)), None)
    if nodes is not None and "MASTER_ADDR" not in environment:
        alone = next((environment[name] for name in COUNTS if environment.get(name)), None) == "1"
        found["MASTER_ADDR"] = "127.0.0.1" if alone else _address(first_host(nodes))
    if environment.get("SLURM_JOB_ID", "").isdecimal() and "MASTER_PORT" not in environment:
        found["MASTER_PORT"] = str(_port(environment))
    return found


def first_host(nodes: str) -> str:
    """The first name of a Slurm node list: `gpu-007` for `gpu-[007-012,020],login1`."""
    name = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes.strip())
    return re.sub(r"\[([^,\-\]]+)[^\]]*\]", r"\1", name[0]) if name else nodes


def _port(environment: Mapping[str, str]) -> int:
    """Another one for each job, and for each restart: the old one may be taken for a minute after a crash."""
    numbers = [environment.get(name, "0") for name in ("SLURM_RESTART_COUNT", "SLURM_STEP_ID")]
    others = sum(int(number) for number in numbers if number.isdecimal())
    return FIRST_PORT + (10 * int(environment["SLURM_JOB_ID"]) + others) % PORTS


def _address(host: str) -> str:
    """The name itself where it resolves; else the address that Slurm knows for the node."""
    try:
        socket.getaddrinfo(host, None)
        return host
    except OSError:
        if shutil.which("scontrol") is None:
            return host
        shown = subprocess.run(["scontrol", "show", "node", host, "-o"], capture_output=True, text=True, check=False)
        address = re.search(r"NodeAddr=(\S+)", shown.stdout)
        return address[1] if address else host
