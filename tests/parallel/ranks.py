"""Starts ranks for a test: processes over gloo on a free port, one launch for as many cases as a test likes.

Each is forked from a server that has imported torch, megatron-core and DeepSpeed once and done nothing else: a spawned one
would import them anew, 3 to 5 seconds of a core each. The server has one thread and no process group, so nothing of gloo
is forked.
"""

import contextlib
import multiprocessing
import os
import pickle
import random
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

GPU = Path("/dev/nvidiactl").exists()
PRELOADED = [
    "tests.parallel.preloaded"
]  # found where pytest runs in the repository; else every rank imports for itself


def launch(function: Callable[..., Any], world: int, *args: Any, timeout: float = 240.0) -> list[Any]:
    """What `function(*args)` returned on each of `world` ranks; it finds its rank in the environment, as under torchrun.

    An error on any rank ends all and is raised here as AssertionError with the rank's traceback.
    """
    (port,) = free_ports(1)
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(world)]
    ranks = [
        process(_rank, pipes[rank][1], dict(os.environ), pickle.dumps((function, args)), rank, world, port)
        for rank in range(world)
    ]
    for one in ranks:
        one.daemon = True
        one.start()
    try:
        answers = []
        for rank, (receiver, sender) in enumerate(pipes):
            sender.close()
            if not receiver.poll(timeout):
                raise AssertionError(f"rank {rank} of {world} gave no answer in {timeout} s")
            ok, value = pickle.loads(receiver.recv_bytes())
            assert ok, f"rank {rank} of {world} failed:\n{value}"
            answers.append(value)
        return answers
    finally:
        for one in ranks:
            one.join(5)
            if one.is_alive():
                one.kill()


def process(target: Callable[..., None], *args: Any) -> BaseProcess:
    """A process of the server, not started yet: it imports nothing anew."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    context = multiprocessing.get_context("spawn" if GPU else "forkserver")  # CUDA does not survive a fork
    return context.Process(target=target, args=args)  # type: ignore[attr-defined]


def asked(request: Any, test: Callable[..., Any]) -> list[Any]:
    """What the parametrized `test` is called with for its `name`, in this run: a launch need not do more than that."""
    items = [item for item in request.session.items if getattr(item, "originalname", "") == test.__name__]
    return [item.callspec.params["name"] for item in items if item.module.__name__ == test.__module__]


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports to meet at, for a launch or for worlds that follow each other in one. They lie below those that the system
    gives to connections, such as gloo's: one of those could take the port before it is listened at. None is given twice,
    and processes of pytest-xdist draw from ranges of their own: ranks that meet at the port of others find no peer.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = 12000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    found: list[int] = []
    while len(found) < count:
        port = 20000 + worker * share + random.randrange(share)
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in _given:
                probe.bind(("127.0.0.1", port))
                _given.add(port)
                found.append(port)
    return found


def _rank(
    pipe: Connection, environment: dict[str, str], packed: bytes, rank: int, world: int, port: int
) -> None:
    os.environ.clear()  # the server's is of the moment it began
    os.environ.update(environment)
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_RANK=str(rank),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OMP_NUM_THREADS="1",
    )
    try:
        function, args = pickle.loads(packed)
        pipe.send_bytes(pickle.dumps((True, function(*args))))  # plain send() shares tensors by file
    except BaseException:  # it is raised again in the test's own process
        pipe.send_bytes(pickle.dumps((False, traceback.format_exc())))
    pipe.close()
