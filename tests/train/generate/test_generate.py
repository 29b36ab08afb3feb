"""Greedy reading with a cache is what reading without one would be, row by row, and the command prints it."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_pipeline.batch import BatchSpec, prompt_batch
from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer, byte_tokenizer
from parallel import topology
from train.config import DecoderConfig, EncoderConfig, ModelConfig
from train.generate.command import load_page
from train.generate.config import images
from train.generate.decoding import decode, generate, read
from train.model.optical import OpticalModel, build

SPEC = BatchSpec(image_size=64, patch=8, max_length=48)  # a page takes 2 * 3 + 1 = 7 positions


TINY = replace(
    ModelConfig(),
    encoder=EncoderConfig(
        image_size=64, patch=8, window_width=16, window_depth=1, window_heads=2, window_size=4, global_layers=[],
        window_mlp=16, neck_width=8, compressor_widths=[16, 16], global_depth=1, global_heads=2, global_mlp=16,
    ),
    decoder=DecoderConfig(
        layers=2, width=32, heads=2, ffn=32, dense_layers=1, experts=4, experts_per_token=2, expert_ffn=16,
        shared_experts=1, vocab_size=272, max_length=48,
    ),
    glyph_heads=False,
)  # fmt: skip


def tiny_model(seed: int = 0) -> OpticalModel:
    """Every part of the architecture, at toy size, with weights by which different pages give different
    texts.
    """
    model = build(TINY, byte_tokenizer().image, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if (
                weight.dim() > 1
            ):  # what starts at zero, so that layers begin as identities, must do something here
                weight.copy_(
                    weight.mul(3) if weight.any() else torch.randn(weight.shape, generator=generator) / 4
                )
    return model


@pytest.fixture(scope="module")
def model() -> Iterator[OpticalModel]:
    topology.start(topology.Topology(), seed=0)
    yield tiny_model()
    topology.stop()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_tokenizer()


def pages(count: int) -> list[np.ndarray]:
    """Coarse random patterns, which even an untrained encoder tells apart."""
    coarse = [np.random.default_rng(index).integers(0, 256, (4, 4), dtype=np.uint8) for index in range(count)]
    return [np.kron(pattern, np.ones((16, 16), dtype=np.uint8)) for pattern in coarse]


def without_cache(model: OpticalModel, tokenizer: Tokenizer, page: np.ndarray, limit: int) -> list[int]:
    """Greedy decoding by running the whole row again for each token."""
    batch = prompt_batch([page], "read", tokenizer, SPEC)
    made: list[int] = []
    model.eval()
    with torch.no_grad():
        for _ in range(limit):
            token = model(batch).logits[0, -1, : tokenizer.vocab_size].argmax()
            made.append(int(token))
            tokens = torch.cat([batch.tokens, token.view(1, 1)], dim=1)
            batch = replace(
                batch,
                tokens=tokens,
                positions=torch.arange(tokens.shape[1])[None],
                padding=torch.zeros_like(tokens, dtype=torch.bool),
            )
    return made


def until_end(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    return ids[: ids.index(tokenizer.eos)] if tokenizer.eos in ids else ids


def test_cached_decoding_equals_running_the_whole_row_again(
    model: OpticalModel, tokenizer: Tokenizer
) -> None:
    shown = pages(3)
    batch = prompt_batch(shown, "read", tokenizer, SPEC)
    rows = torch.stack(list(decode(model, batch, tokenizer, 12)), dim=1).tolist()
    plain = [without_cache(model, tokenizer, page, 12) for page in shown]
    assert [until_end(row, tokenizer) for row in rows] == [until_end(row, tokenizer) for row in plain]
    assert sum(len(until_end(row, tokenizer)) for row in plain) > 12
    assert len({tuple(row) for row in plain}) > 1  # the page decides what is read, or this test shows nothing


def test_a_row_does_not_depend_on_the_batch_it_is_in(model: OpticalModel, tokenizer: Tokenizer) -> None:
    shown = pages(5)
    done: list[int] = []
    together = generate(model, tokenizer, shown, "", SPEC, 10, batch_size=5)
    apart = generate(model, tokenizer, shown, "", SPEC, 10, batch_size=2, progress=done.append)
    assert together == apart and len(apart) == 5 and done == [2, 2, 1]


class Scripted(torch.nn.Module):
    """Stands in for a model: writes fixed ids for each row, whatever it is fed."""

    def __init__(self, rows: list[list[int]], vocabulary: int = 272) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows, self.vocabulary, self.position = rows, vocabulary, 0
        self.fed: list[list[int]] = []

    def prefill(self, batch: object, cache: object) -> torch.Tensor:
        assert not self.training
        self.position = 0
        return self._logits()

    def decode_step(self, tokens: torch.Tensor, cache: object) -> torch.Tensor:
        self.fed.append(tokens.tolist())
        self.position += 1
        return self._logits()

    def _logits(self) -> torch.Tensor:
        logits = torch.zeros(len(self.rows), self.vocabulary)
        for row, ids in enumerate(self.rows):
            logits[row, ids[min(self.position, len(ids) - 1)]] = 1.0
        logits[:, 271] = 9.0  # the padded id of the output layer: no text belongs to it
        return logits


def test_each_row_ends_at_its_own_end_token_and_all_stop_together(tokenizer: Tokenizer) -> None:
    model = Scripted([[*b"ab", tokenizer.eos, *b"zz"], [*b"abcd", tokenizer.eos], [*b"no end in sight"]])
    model.train()
    found = read(model, tokenizer, pages(3), "", SPEC, 8)  # type: ignore[arg-type]
    assert [(item.text, item.finished, item.tokens) for item in found] == [
        ("ab", True, 3),
        ("abcd", True, 5),
        ("no end i", False, 8),
    ]
    assert model.training  # as it was found
    brief = Scripted([[tokenizer.eos], [*b"a", tokenizer.eos]])
    assert generate(brief, tokenizer, pages(2), "", SPEC, 30) == ["", "a"]  # type: ignore[arg-type]
    assert len(brief.fed) == 1  # nothing is computed once every row has ended


def test_reading_stops_where_the_model_was_not_made_for_more(tokenizer: Tokenizer) -> None:
    found = read(Scripted([[*b"a"]]), tokenizer, pages(1), "read", SPEC, 1000)  # type: ignore[arg-type]
    assert found[0].tokens == 48 - (1 + 7 + 4)


def test_pictures_of_any_kind_become_pages(tmp_path: Path) -> None:
    Image.new("RGBA", (5, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("L", (5, 4), 7).save(tmp_path / "grey.png")
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "colour.bmp")
    assert load_page(tmp_path / "clear.png").tolist() == np.full((4, 5, 3), 255).tolist()
    assert load_page(tmp_path / "grey.png").tolist() == np.full((4, 5), 7).tolist()
    assert load_page(tmp_path / "colour.bmp")[0, 0].tolist() == [1, 2, 3]
    assert [path.name for path in images(str(tmp_path / "*.png"))] == ["clear.png", "grey.png"]
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="text.png: not a picture"):
        load_page(tmp_path / "text.png")


def test_mistakes_are_answered_without_loading_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from train.generate.__main__ import *\n"
        f"code = run(main, 'generate', GenerateConfig, ['checkpoint=x', 'image={tmp_path}/none.png'], check=check)\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and f"image={tmp_path}/none.png: no such file" in done.stderr
    assert "Traceback" not in done.stderr
