"""Reading with what a tuner added, on one process or on tensor ranks. Torch is imported inside: the ranks import this file before
their environment is complete.
"""

import os
from collections.abc import Sequence
from typing import Any

TUNES: dict[str, dict[str, Any]] = {
    "adapter": {"kind": "adapter", "width": 12},
    "adapters behind attention": {"kind": "adapter", "width": 12, "targets": ["attention"]},
    "prefix": {"kind": "prefix", "width": 12, "tokens": 6},
    "p_tuning_v2": {"kind": "p_tuning_v2", "tokens": 6},
    "prompt": {"kind": "prompt", "tokens": 6},
    "p_tuning": {"kind": "p_tuning", "width": 12, "tokens": 6},
}
DECODING: dict[str, dict[str, Any]] = {"greedy": {}, "looked up": {"speculate": "lookup"}}
ON_RANKS = [("adapter", "greedy"), ("prefix", "greedy"), ("p_tuning_v2", "looked up"), ("prompt", "greedy")]


def tuned_model(tune: str, tensor: int = 1) -> Any:
    """A model whose text depends on the page and on what was added: nothing of that is zero."""
    import torch

    from tests.train.generate.reading_model import configuration, reading_model
    from tests.train.model.small_model import without_zeros
    from train.adapt.attach import add
    from train.config import Config, ParallelConfig, TuneConfig

    model = reading_model(1, ParallelConfig(tensor=tensor))
    base = {id(parameter): parameter.detach().clone() for parameter in model.parameters()}
    add(Config(model=configuration(), tune=TuneConfig(**TUNES[tune]), seed=5), model)
    without_zeros(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(base.get(id(parameter), 3 * parameter))
    return model.eval()


def batch_of(tune: str, count: int) -> Any:
    """Pages that differ in length, behind the positions that the tuner takes."""
    from dataclasses import replace

    from data_pipeline.batch import prompt_batch
    from data_pipeline.tokenizer import byte_tokenizer
    from tests.train.generate.reading_model import TILED, pages, spec
    from train.config import TuneConfig

    reserved = TuneConfig(**TUNES[tune]).reserved
    return prompt_batch(pages(count), "read", byte_tokenizer(), replace(spec(TILED), reserved=reserved))


def text(tune: str, how: str, tensor: int = 1) -> list[list[int]]:
    """24 ids of each of three pages."""
    from tests.train.generate.reading_model import endless, joined
    from train.generate.decoding import decode
    from train.generate.options import Decoding

    decoding = Decoding(24, **DECODING[how])
    return joined(list(decode(tuned_model(tune, tensor), batch_of(tune, 3), endless(), decoding)))


def play(ports: Sequence[int]) -> dict[tuple[str, str], Any]:
    """Texts of all cases, on two tensor ranks."""
    from parallel import topology

    os.environ["MASTER_PORT"] = str(ports[0])
    topology.start(topology.Topology(tensor=2), seed=0)
    found = {(tune, how): text(tune, how, 2) for tune, how in ON_RANKS}
    topology.stop()
    return found
