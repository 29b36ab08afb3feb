"""What ranks do for test_samples.py. Torch is imported inside: the ranks import this file before their environment is complete."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAYOUTS: dict[str, dict[str, int]] = {
    "data 2": {}, "tensor 2": {"tensor": 2}, "expert 2 over tensor": {"tensor": 2, "expert": 2}, "pipeline 2": {"pipeline": 2},
    "expert 2 over data": {"expert": 2},
}  # fmt: skip


def read_here(held_out: Path, run_folder: Path, sizes: dict[str, int]) -> tuple[dict[str, float], list[str], list[str]]:
    """(means, texts that were read, what was said), in the layout of the process groups that there are."""
    import torch.distributed as dist

    from tests.train.evaluate.reading_run import SPEC, TINY, TOKENIZER
    from train.config import ParallelConfig
    from train.model.optical import build
    from train.monitor.reading import reader_of
    from train.monitor.samples import folder_of, read_pages

    said: list[str] = []
    model = build(TINY, TOKENIZER.image, ParallelConfig(**sizes), seed=0)
    sources = {source: held_out / source for source in ("a", "b")}
    reader = reader_of(model, TOKENIZER, SPEC, sources, 3, run_folder, said.append, stage=1)
    means = reader(7)
    dist.barrier()
    texts = [page.read for page in read_pages(folder_of(run_folder, 7))]
    return means, texts, said


def play(held_out: Path, runs: Path, ports: Sequence[int]) -> dict[str, Any]:
    """`read_here` in each layout."""
    from parallel import topology

    found = {}
    for (layout, sizes), port in zip(LAYOUTS.items(), ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        topology.start(topology.Topology(**sizes, data=2 // sizes.get("tensor", sizes.get("pipeline", 1))), seed=0)
        found[layout] = read_here(held_out, runs / layout, sizes)
        topology.stop()
    return found
