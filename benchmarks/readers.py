"""The two ways to read pages that `benchmarks.generate` compares, each alone in a process: our decoding engine, and
transformers' `generate`. `python -m benchmarks.readers ours|theirs …` answers `benchmarks.turns`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.turns import peak_memory, resident, serve
from train.config import Config

PROMPT = "Free OCR."
OPTIONS: dict[str, dict[str, Any]] = {  # rows of the report: how ours is asked to decode
    "greedy": {},
    "bf16 cache": {"cache": "bf16"},
    "int8 cache": {"cache": "int8"},
    "lookup": {"speculate": "lookup"},
}


def main() -> None:
    """Makes one of the two, and reads the pages whenever the parent asks."""
    options = parser().parse_args()
    config = configured(options.model)
    import transformers.models.unlimited_ocr.modeling_unlimited_ocr  # noqa: F401

    import train.generate.decoding  # noqa: F401

    before = resident("VmRSS")
    made = ours if options.name == "ours" else theirs
    serve(timed(made(config, options)) | {"memory": lambda: peak_memory(before)})


def parser() -> argparse.ArgumentParser:
    """What both processes are told."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("name", choices=["ours", "theirs"])
    made.add_argument("--weights", required=True, help="file of our weights: ours writes it, theirs reads it")
    made.add_argument("--model", default="small")
    made.add_argument("--batch", type=int, default=1)
    made.add_argument("--tokens", type=int, default=256)
    return made


def configured(model: str) -> Config:
    """The model without what reading does not need."""
    from conf.compose import compose

    config: Config = compose("config", Config, [f"model={model}", "model.glyph_heads=false"])
    return config


def timed(functions: dict[str, Callable[[], list[list[int]]]]) -> dict[str, Callable[[], dict[str, Any]]]:
    """The functions, with how long each call took; "processor": how long the processor worked for it, whatever else it
    did meanwhile.
    """

    def run(function: Callable[[], list[list[int]]]) -> dict[str, Any]:
        began, worked = time.perf_counter(), time.process_time()
        ids = function()  # lists: a GPU has done all
        return {"seconds": time.perf_counter() - began, "processor": time.process_time() - worked, "ids": ids}

    return {name: lambda function=function: run(function) for name, function in functions.items()}  # type: ignore[misc]


def ours(config: Config, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Our engine: a text in each way of OPTIONS, and "first", its first id alone."""
    import torch

    from parallel.device import device
    from parallel.topology import Topology, start
    from train.generate.decoding import decode
    from train.generate.options import Decoding
    from train.model.optical import OpticalModel, build

    start(Topology(), seed=0)  # with it come our settings of torch; they end with the process
    model = build(config.model, _tokenizer(config).image, device=device(), seed=0)
    assert isinstance(model, OpticalModel)
    awaken(model)
    torch.save(model.state_dict(), options.weights)
    batch = pages(config, options.batch).to(device())

    def text(tokens: int, **how: Any) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in batch.keys]
        for new in decode(model, batch, _tokenizer(config), Decoding(tokens, **how)):
            for ids, more in zip(rows, new, strict=True):
                ids += more
        return rows

    def function(how: dict[str, Any]) -> Callable[[], list[list[int]]]:
        return lambda: text(options.tokens, **how)

    return {"first": lambda: text(1)} | {name: function(how) for name, how in OPTIONS.items()}


def theirs(config: Config, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """transformers' `generate` with its own defaults, greedy: "greedy" and "first"."""
    import torch

    from benchmarks.peer import peer
    from parallel.device import device

    weights = torch.load(Path(options.weights), mmap=True, map_location=device())
    model = peer(config.model, _tokenizer(config).image, weights).eval()
    model.generation_config.eos_token_id = None
    batch = pages(config, options.batch).to(device())
    pixels = batch.views[0].to(model.dtype).div_(127.5).sub_(1.0)

    def text(tokens: int) -> list[list[int]]:
        found = model.generate(
            input_ids=batch.tokens,
            attention_mask=torch.ones_like(batch.tokens),
            pixel_values=pixels,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return found[:, batch.tokens.shape[1] :].tolist()

    return {"first": lambda: text(1), "greedy": lambda: text(options.tokens)}


def pages(config: Config, count: int) -> Any:
    """Prompts of `count` pages of noise, of the size that the model is made for."""
    import numpy as np

    from data_pipeline.batch import BatchSpec, prompt_batch

    side, generator = config.model.encoder.image_size, np.random.default_rng(0)
    shown = [generator.integers(0, 256, (side, side), dtype=np.uint8) for _ in range(count)]
    spec = BatchSpec((str(side),), config.model.encoder.patch, config.model.decoder.max_length)
    return prompt_batch(shown, PROMPT, _tokenizer(config), spec)


def awaken(model: Any) -> None:
    """Gives what starts at zero other values: a model of identities would write one id for ever."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                values = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(values * parameter.shape[-1] ** -0.5)


class _Endless:
    """The tokenizer of the configuration, but every id of the output layer is text and none ends one."""

    def __init__(self, config: Config) -> None:
        from data_pipeline.tokenizer import load_tokenizer

        known = load_tokenizer(config.data.tokenizer)
        self.bos, self.pad, self.image, self.encode = known.bos, known.pad, known.image, known.encode
        self.vocab_size, self.eos = config.model.decoder.vocab_size, -1


def _tokenizer(config: Config) -> Any:
    return _Endless(config)


if __name__ == "__main__":
    main()
