"""Model FLOPs utilization: the share of the devices' peak that the model's own operations are.

Counted are positions and views that hold something, nothing twice (recomputation is no progress) and causal attention halved; the
count is train.plan's. Peaks are the data sheets' in conf/device. A CPU has no peak worth a figure, and a stage whose step does
more or less than the planned model's (a tuned, distilled or text-fed one) no count: there it is left out, and said so on GPUs.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import conf
from data_pipeline.batch import MicroBatch
from parallel.topology import Topology
from train.config import Config
from train.observe.observer import Look
from train.observe.ranks import Row
from train.plan.work import Prices, view_sizes

DEVICES = Path(conf.__file__).parent / "device"


class Utilization:
    """`mfu`, over the steps between two gathers, as soon as `prices` answers with more than None.

    peak: FLOP/s of one device. sizes: of views, in pixels.
    """

    def __init__(self, prices: "Count", peak: float, sizes: Sequence[int], topology: Topology) -> None:
        self._prices, self._peak, self._sizes, self._topology = prices, peak, sizes, topology
        self._lengths: list[torch.Tensor] = []  # of samples, left on their device until they are asked for
        self._views: Counter[int] = Counter()
        self._labels = self._seconds = 0.0

    def begin(self) -> None:
        """Nothing to do."""

    def see(self, look: Look) -> None:
        """Adds a step."""
        for batch in look.batches:
            self._lengths.append(lengths(batch))
            self._views.update({stack.shape[-1]: len(stack) for stack in batch.views})
        self._labels += look.output.weights["tokens"]
        self._seconds += look.seconds

    def values(self) -> list[float]:
        """Of this rank's batches: positions, their pairs, views of each size; then the labels of all, and seconds."""
        seen = torch.cat(self._lengths).double() if self._lengths else torch.zeros(1)
        positions, pairs = torch.stack([seen.sum(), (seen * seen).sum()]).tolist()
        values = [positions, pairs, *(float(self._views[size]) for size in self._sizes), self._labels, self._seconds]
        self._lengths, self._views, self._labels, self._seconds = [], Counter(), 0.0, 0.0
        return values

    def judge(self, rows: Sequence[Row], step: int) -> Mapping[str, Any]:
        """Of all ranks together: those of one data rank hold the same batches."""
        prices, (*_, labels, seconds) = self._prices(), rows[0]
        if prices is None or not seconds:
            return {}
        copies = self._topology.tensor * self._topology.pipeline
        positions, pairs, *views = [sum(column) / copies for column in zip(*rows)][:-2]
        done = prices.flops(positions, pairs, labels, dict(zip(self._sizes, views)))
        return {"mfu": done / (seconds * self._topology.world * self._peak)}

    def close(self) -> None:
        """Nobody waits for the count any more."""
        self._prices.close()


def lengths(batch: MicroBatch) -> torch.Tensor:
    """Positions of each sample; of packed rows what fills them up counts as one."""
    return batch.bounds.diff() if batch.bounds is not None else (~batch.padding).sum(1)


class Count:
    """The prices of a run, from a process beside it with the lowest priority: about ten seconds of one core."""

    def __init__(self, config: Path) -> None:
        hidden = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "train.plan.work", str(config)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, env={**os.environ, **hidden}, text=True, **streams)  # type: ignore[call-overload]
        self._prices: Prices | None = None

    def __call__(self) -> Prices | None:
        """None until they are known, and for good where they cannot be."""
        if self._prices is None and self._process.poll() == 0 and not self._process.stdout.closed:
            with self._process.stdout as answer:
                self._prices = Prices.from_json(answer.read().splitlines()[-1])
        return self._prices

    def close(self) -> None:
        """The process has ended."""
        self._process.kill()
        self._process.wait()


def utilization(config: Config, topology: Topology, folder: Path, say: Callable[[str], object]) -> list[Utilization]:
    """The part that measures MFU; [] where it cannot be said."""
    if not torch.cuda.is_available():
        return []
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    peak = peak_of(properties.name, properties.total_memory / 2**30, config.engine.precision)
    missing = uncounted(config)
    if peak is None:
        missing = f"conf/device has no {properties.name}"
    if missing or peak is None:
        say(f"MFU is left out: {missing}")
        return []
    return [Utilization(Count(folder / "config.yaml"), peak, view_sizes(config), topology)]


def uncounted(config: Config) -> str:
    """Why train.plan does not count this stage's FLOPs; "" where it does."""
    if config.model.encoder.kind != "optical":
        return f"FLOPs of model.encoder.kind={config.model.encoder.kind} are not counted"
    if config.tune.kind not in ("none", "full"):
        return f"FLOPs of tune={config.tune.kind} are not counted"
    return "FLOPs of a teacher are not counted" if config.distill.teacher is not None else ""


def peak_of(name: str, memory: float, precision: str) -> float | None:
    """FLOP/s of the data sheet for a GPU that calls itself `name` and has `memory` GiB; None for an unknown one."""
    known = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(DEVICES.glob("*.yaml"))]
    words = name.lower().replace("-", " ").split()
    fitting = [device for device in known if device["name"].split("_")[0] in words]
    if not fitting:
        return None
    nearest = min(fitting, key=lambda device: abs(device["memory"] - memory))
    return 1e12 * float(nearest["bf16" if precision == "bf16" else "fp32"])
