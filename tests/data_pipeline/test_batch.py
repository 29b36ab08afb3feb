from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipeline.batch import NO_LOSS, BatchSpec, Collator, hole, prompt_batch
from data_pipeline.errors import DataError
from data_pipeline.resolution import sequence_length
from data_pipeline.tokenizer import byte_tokenizer
from tests.data_pipeline.shard_sets import a_record

TOKENIZER = byte_tokenizer()
SPEC = BatchSpec(image_size=32, patch=4, max_length=256, glyph_cells=8)
IMAGE_POSITIONS = sequence_length(32, 4)


def collate(*records, spec=SPEC):
    return Collator(TOKENIZER, spec)(records, [record.source for record in records])


def test_a_row_is_begin_image_prompt_target_end_with_loss_on_target_and_end():
    record = a_record(1)
    batch = collate(record)
    prompt, target = record.prompt.encode(), record.target.encode()
    row = [TOKENIZER.bos, *[TOKENIZER.image] * IMAGE_POSITIONS, *prompt, *target, TOKENIZER.eos]
    length = batch.tokens.shape[1]
    assert length == -(-len(row) // 8) * 8
    assert batch.tokens[0].tolist() == row + [TOKENIZER.pad] * (length - len(row))
    first = len(row) - len(target) - 1
    expected = [NO_LOSS] * (first - 1) + [*target, TOKENIZER.eos]
    assert batch.labels[0].tolist() == expected + [NO_LOSS] * (length - len(expected))
    assert batch.padding[0].tolist() == [False] * len(row) + [True] * (length - len(row))
    assert batch.positions[0].tolist() == list(range(length))
    assert batch.weights() == {"tokens": len(target) + 1, "cells": 64}


def test_every_label_is_the_next_token():
    batch = collate(a_record(1), a_record(2, pages=0), a_record(3, pages=2))
    wanted = batch.labels[:, :-1] != NO_LOSS
    assert torch.equal(batch.labels[:, :-1][wanted], batch.tokens[:, 1:][wanted])
    assert (batch.labels[:, -1] == NO_LOSS).all()


def test_views_follow_the_rows_image_positions():
    records = [a_record(1), a_record(2, pages=0), a_record(3, pages=2)]
    batch = collate(*records)
    assert batch.view_of.tolist() == [0, 2, 2]
    assert (batch.tokens == TOKENIZER.image).sum(1).tolist() == [IMAGE_POSITIONS, 0, 2 * IMAGE_POSITIONS]
    pages = [records[0].pages[0], *records[2].pages]
    for shown, page in zip(batch.views, pages, strict=True):
        assert torch.equal(shown, torch.from_numpy(np.stack([page] * 3)))
    assert batch.glyphs is not None
    assert torch.equal(batch.glyphs[0], torch.from_numpy(records[0].glyphs))
    assert torch.equal(batch.glyphs[1], torch.from_numpy(records[2].glyphs))
    assert (batch.glyphs[2] == 255).all()
    assert batch.weights()["cells"] == 128
    assert batch.keys == [record.key for record in records]


def test_grey_pages_share_the_memory_of_their_channels_and_colour_pages_do_not():
    grey = collate(a_record(1), a_record(2))
    assert (grey.views.dtype, grey.views.shape, grey.views.stride(1)) == (torch.uint8, (2, 3, 32, 32), 0)
    colour = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mixed = collate(a_record(1), replace(a_record(2), pages=(colour,)))
    assert torch.equal(mixed.views[1], torch.from_numpy(colour.transpose(2, 0, 1).copy()))
    assert torch.equal(mixed.views[0], grey.views[0])


def test_a_batch_without_pages_still_has_a_view_for_the_encoder_that_weighs_nothing():
    batch = collate(a_record(1, pages=0), a_record(2, pages=0))
    assert batch.views.shape == (1, 3, 32, 32)
    assert not batch.views.any()
    assert batch.view_of.tolist() == [-1]
    assert batch.weights()["cells"] == 0
    assert batch.weights()["tokens"] > 0


def test_a_hole_is_a_row_without_page_and_loss():
    batch = collate(hole("broken", "prose"), a_record(1))
    assert (batch.labels[0] == NO_LOSS).all()
    assert batch.view_of.tolist() == [1]
    assert batch.weights() == collate(a_record(1)).weights()
    alone = collate(hole("broken", "prose"))
    assert alone.weights() == {"tokens": 0, "cells": 0}
    assert alone.tokens[0, :2].tolist() == [TOKENIZER.bos, TOKENIZER.eos]


def test_a_row_does_not_depend_on_its_neighbours():
    records = [a_record(number) for number in range(3)]
    together = collate(*records, replace(records[0], target="long " * 30))
    for row, record in enumerate(records):
        alone = collate(record)
        length = alone.tokens.shape[1]
        assert torch.equal(together.tokens[row, :length], alone.tokens[0])
        assert torch.equal(together.labels[row, :length], alone.labels[0])
        assert together.padding[row, length:].all()


def test_without_glyph_cells_there_are_no_maps():
    batch = collate(a_record(1), spec=replace(SPEC, glyph_cells=None))
    assert batch.glyphs is None
    assert batch.weights()["cells"] == 0


def test_a_row_may_fill_max_length_exactly_and_one_more_names_the_setting():
    record = a_record(1)
    length = 1 + IMAGE_POSITIONS + len(record.prompt.encode()) + len(record.target.encode()) + 1
    assert length % 8
    assert collate(record, spec=replace(SPEC, max_length=length)).tokens.shape == (1, length)
    with pytest.raises(DataError, match=f"prose-00001.*set data.max_length={length}"):
        collate(record, spec=replace(SPEC, max_length=length - 1))


def test_a_batch_moves_whole_and_grey_views_stay_cheap():
    batch = collate(a_record(1))
    moved = batch.to("meta")
    assert {moved.tokens.device.type, moved.views.device.type, moved.glyphs.device.type} == {"meta"}
    assert moved.views.stride(1) == 0
    assert moved.keys == batch.keys
    assert torch.equal(batch.to("cpu").views, batch.views)


def test_a_prompt_batch_ends_where_the_answer_begins():
    pages = [a_record(1).pages[0], np.zeros((50, 40, 3), np.uint8)]
    batch = prompt_batch(pages, "\nFree OCR.", TOKENIZER, SPEC)
    trained = collate(a_record(1))
    length = 1 + IMAGE_POSITIONS + len("\nFree OCR.")
    assert batch.tokens.shape == (2, length)
    assert torch.equal(batch.tokens[0], trained.tokens[0, :length])
    assert torch.equal(batch.views[0], trained.views[0])
    assert batch.view_of.tolist() == [0, 1]
    assert not batch.padding.any()
    assert (batch.labels == NO_LOSS).all()
    with pytest.raises(DataError, match=r"data\.max_length="):
        prompt_batch(pages, "x" * 300, TOKENIZER, SPEC)


def test_rows_end_at_the_multiple_that_ranks_share_out_and_never_beyond_max_length():
    length = int((~collate(a_record(1)).padding).sum())
    assert collate(a_record(1), spec=replace(SPEC, row_multiple=24)).tokens.shape[1] == -(-length // 24) * 24
    tight = replace(SPEC, row_multiple=240, max_length=length + 1)
    assert collate(a_record(1), spec=tight).tokens.shape[1] == length + 1
