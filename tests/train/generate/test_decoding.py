"""Pages to text: what running the whole row again would write, what transformers writes, whatever the batch."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from megatron.core import parallel_state

from data_pipeline.errors import DataError, UserError
from data_pipeline.tokenizer import byte_tokenizer
from tests.train.generate.reading_model import (
    LENGTH,
    TILED,
    batch_of,
    configuration,
    endless,
    joined,
    pages,
    reading_model,
    spec,
)
from train.generate import decoding as decoding_module
from train.generate.decoding import decode, read
from train.generate.options import Decoding, NoRepeat
from train.model.optical import OpticalModel

TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module")
def model(one_process) -> OpticalModel:
    return reading_model()


class Ending:
    """The byte tokenizer, in which "-" ends a text: the model writes it sooner or later."""

    vocab_size, eos, bos, image, pad = 271, ord("-"), TOKENIZER.bos, TOKENIZER.image, TOKENIZER.pad
    encode, decode = staticmethod(TOKENIZER.encode), staticmethod(TOKENIZER.decode)


@torch.no_grad()
def without_cache(model: OpticalModel, page: int, mode: str, limit: int) -> list[int]:
    """Greedy decoding by running the whole row again for each id, with the training forward."""
    batch = batch_of(1, mode, first=page)
    made: list[int] = []
    model.eval()
    for _ in range(limit):
        token = model(batch).logits[0, -1, : TOKENIZER.vocab_size].argmax()
        made.append(int(token))
        tokens = torch.cat([batch.tokens, token.view(1, 1)], dim=1)
        batch = replace(
            batch,
            tokens=tokens,
            positions=torch.arange(tokens.shape[1])[None],
            padding=torch.zeros_like(tokens, dtype=torch.bool),
        )
    return made


def test_texts_are_those_of_running_the_whole_row_again(model) -> None:
    """Rows of different lengths."""
    batch = batch_of(3, TILED)
    assert batch.padding.any()
    rows = joined(list(decode(model, batch, endless(), Decoding(24))))
    assert rows == [without_cache(model, page, TILED, 24) for page in range(3)]
    assert len({tuple(row) for row in rows}) == 3  # the page decides what is read, or this shows nothing


@pytest.mark.parametrize("rule", [None, (4, 24)])
@pytest.mark.parametrize("count", [1, 6])
def test_texts_are_those_that_transformers_generates(one_process, count: int, rule) -> None:
    """On the same weights and pages, 96 ids; also with its own rule against repetitions."""
    pytest.importorskip("transformers.models.unlimited_ocr")
    from benchmarks.peer import peer

    model = reading_model(4, strength=1.5)
    theirs = peer(configuration(), TOKENIZER.image, model.state_dict()).eval()
    batch = batch_of(count)
    options: dict = {"max_new_tokens": 96, "do_sample": False, "pad_token_id": 0, "suppress_tokens": [271]}
    if rule:
        options["no_repeat_ngram_size"] = rule[0]
        theirs.generation_config.no_repeat_ngram_window_size = rule[1]
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(
        input_ids=batch.tokens, attention_mask=torch.ones_like(batch.tokens),
        pixel_values=batch.views[0].float() / 127.5 - 1, **options,
    )[:, batch.tokens.shape[1] :].tolist()  # fmt: skip
    decoding = Decoding(96, no_repeat=NoRepeat(*rule) if rule else None)
    assert joined(list(decode(model, batch, endless(), decoding))) == expected
    assert len({tuple(row) for row in expected}) == count and len(expected[0]) == 96


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.8}, {"no_repeat": NoRepeat(2, 9)}, {"speculate": "lookup"}, {"cache": "int8"}],
)
def test_a_reading_does_not_depend_on_the_batch_it_is_in(model, options: dict) -> None:
    """Nor on when the rows beside it end."""
    shown, done = pages(9), list[int]()
    decoding = Decoding(60, **options)
    found = [
        read(model, Ending, shown, "", spec(TILED), decoding, batch_size=size, progress=done.append)  # type: ignore[arg-type]
        for size in (9, 4, 1)
    ]
    assert found[0] == found[1] == found[2]
    assert done == [9, 4, 4, 1, *[1] * 9]
    assert len({item.tokens for item in found[0]}) > 1 and any(item.finished for item in found[0])


def test_a_reading_says_how_it_ended(model) -> None:
    rows = joined(list(decode(model, batch_of(6), Ending, Decoding(15))))  # type: ignore[arg-type]
    found = read(model, Ending, pages(6), "read", spec(), Decoding(15))  # type: ignore[arg-type]
    for row, reading in zip(rows, found, strict=True):
        assert Ending.eos not in row[:-1]
        assert reading.finished == (row[-1] == Ending.eos)
        assert reading.tokens == len(row) == (15 if not reading.finished else row.index(Ending.eos) + 1)
        assert reading.text == TOKENIZER.decode(row[:-1] if reading.finished else row)
    assert {reading.finished for reading in found} == {True, False}


def test_ids_come_as_they_are_chosen_and_ended_rows_give_none(model) -> None:
    steps: Sequence = list(decode(model, batch_of(6), Ending, Decoding(15)))  # type: ignore[arg-type]
    ended = [False] * 6
    for step in steps:
        assert [len(new) for new in step] == [0 if over else 1 for over in ended]
        ended = [over or new[-1:] == [Ending.eos] for over, new in zip(ended, step)]
    assert any(ended) and len(steps) == 15


def test_each_row_is_cut_where_the_model_was_not_made_for_more(model) -> None:
    """Its own prompt counts, not the longest of the batch."""
    batch = batch_of(3, TILED)
    lengths = (~batch.padding).sum(1).tolist()
    assert len(set(lengths)) > 1
    rows = joined(list(decode(model, batch, endless(), Decoding(10_000))))
    assert [len(row) for row in rows] == [LENGTH - length for length in lengths]
    small = replace(spec(TILED), max_length=100)
    found = read(model, endless_text(), pages(3), "read", small, Decoding(10_000))
    assert [item.tokens for item in found] == [100 - length for length in lengths]
    with pytest.raises(DataError, match=r"data\.max_length"):
        read(model, TOKENIZER, pages(1), "read " * 20, small, Decoding(9))


def endless_text():
    """The byte tokenizer without an end."""
    tokenizer = byte_tokenizer()
    tokenizer.eos = -1
    return tokenizer


def test_models_are_left_as_they_were_found(model) -> None:
    model.train()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    steps = decode(model, batch_of(1), TOKENIZER, Decoding(5, temperature=1.0))
    next(steps)
    assert not model.training and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    steps.close()
    assert model.training and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipeline", "parallel.pipeline=2: .* read with parallel.pipeline=1"),
        ("expert", "parallel.expert=2 with parallel.tensor=1: .* read with parallel.expert=1"),
    ],
)
def test_a_model_that_is_not_whole_here_is_refused(model, monkeypatch, kind: str, message: str) -> None:
    monkeypatch.setattr(parallel_state, f"get_{kind}_model_parallel_world_size", lambda: 2)
    with pytest.raises(UserError, match=message):
        next(decode(model, batch_of(1), TOKENIZER, Decoding(5)))


@pytest.mark.parametrize("pixels", [1, 2 * 64 * 64])
def test_pages_encoded_a_few_at_a_time_are_read_as_together(model, monkeypatch, pixels: int) -> None:
    batch = batch_of(5, TILED)
    with torch.no_grad():
        together = model.embed(batch, model.encode(batch))
    monkeypatch.setattr(decoding_module, "PIXELS", pixels)
    torch.testing.assert_close(decoding_module.embedded(model, batch), together, rtol=1e-5, atol=1e-5)
