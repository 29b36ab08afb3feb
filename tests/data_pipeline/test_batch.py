from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipeline.batch import NO_LOSS, BatchSpec, Collator, hole, prompt_batch
from data_pipeline.errors import DataError
from data_pipeline.resolution import mode_of, positions
from data_pipeline.tokenizer import byte_tokenizer
from data_pipeline.views import placements, resample_glyphs, views
from tests.data_pipeline.shard_sets import a_record, views_of

TOKENIZER = byte_tokenizer()
SPEC = BatchSpec(("32",), patch=4, max_length=256, glyphs=True)
IMAGE_POSITIONS = positions(mode_of("32"), 4)


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
    assert batch.weights() == {"tokens": len(target) + 1, "cells": 256}


def test_reserved_positions_stand_before_every_sample_and_change_nothing_else():
    records, room = [a_record(1), a_record(2, pages=0)], 5
    collators = [Collator(TOKENIZER, replace(SPEC, reserved=count)) for count in (0, room)]
    for number, record in enumerate(records):
        without, behind = (collator([record], ["mine"]) for collator in collators)
        length = int((~without.padding).sum())
        assert behind.tokens[0, :room].tolist() == [TOKENIZER.pad] * room
        assert (~behind.padding).sum() == length + room and not behind.padding[0, :room].any()
        for name in ("tokens", "labels"):
            one, other = (getattr(batch, name)[0] for batch in (without, behind))
            assert torch.equal(other[room : room + length], one[:length])
        assert (behind.labels[0, :room] == NO_LOSS).all() and torch.equal(behind.layout, without.layout)
        sizes = [page.shape[:2] for page in records[number].pages]
        assert collators[1].positions(record.key, record.prompt, record.target, sizes) == length + room
    packed = collators[1].packed([[collators[1].sample(record) for record in records]], [["mine"] * 2])
    begins = packed.bounds[:2].tolist()
    assert all((packed.tokens[0, begin : begin + room] == TOKENIZER.pad).all() for begin in begins)
    assert all(packed.positions[0, begin : begin + room].tolist() == list(range(room)) for begin in begins)
    asked = prompt_batch([records[0].pages[0]], "what", TOKENIZER, collators[1].spec)
    assert asked.tokens[0, : room + 1].tolist() == [TOKENIZER.pad] * room + [TOKENIZER.bos]
    assert collators[0].digest != collators[1].digest, "lengths that were measured are not taken for others"


def test_every_label_is_the_next_token():
    batch = collate(a_record(1), a_record(2, pages=0), a_record(3, pages=2))
    wanted = batch.labels[:, :-1] != NO_LOSS
    assert torch.equal(batch.labels[:, :-1][wanted], batch.tokens[:, 1:][wanted])
    assert (batch.labels[:, -1] == NO_LOSS).all()


def test_views_follow_the_rows_image_positions():
    records = [a_record(1), a_record(2, pages=0), a_record(3, pages=2)]
    batch = collate(*records)
    assert [page.row for page in batch.shown] == [0, 2, 2]
    assert (batch.tokens == TOKENIZER.image).sum(1).tolist() == [IMAGE_POSITIONS, 0, 2 * IMAGE_POSITIONS]
    pages = [records[0].pages[0], *records[2].pages]
    for shown, page in zip(batch.views[0], pages, strict=True):
        assert torch.equal(shown, torch.from_numpy(np.stack([page] * 3)))
    (maps,) = batch.glyphs
    for index, record in enumerate((records[0], records[2])):
        assert torch.equal(
            maps[index, ::2, ::2], torch.from_numpy(record.glyphs)
        )  # the view's cells are half as large
    assert (maps[2] == 255).all()
    assert batch.weights()["cells"] == 512
    assert batch.keys == [record.key for record in records]


def test_grey_pages_share_the_memory_of_their_channels_and_colour_pages_do_not():
    grey = collate(a_record(1), a_record(2))
    (stack,) = grey.views
    assert (stack.dtype, stack.shape, stack.stride(1)) == (torch.uint8, (2, 3, 32, 32), 0)
    colour = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mixed = collate(a_record(1), replace(a_record(2), pages=(colour,)))
    assert torch.equal(mixed.views[0][1], torch.from_numpy(colour.transpose(2, 0, 1).copy()))
    assert torch.equal(mixed.views[0][0], stack[0])


def test_a_batch_without_pages_still_has_a_view_for_the_encoder_that_weighs_nothing():
    batch = collate(a_record(1, pages=0), a_record(2, pages=0))
    (stack,) = batch.views
    assert stack.shape == (1, 3, 32, 32)
    assert not stack.any()
    assert batch.shown == () and batch.layout.shape == (0,)
    assert batch.weights()["cells"] == 0
    assert batch.weights()["tokens"] > 0


def test_a_hole_is_a_row_without_page_and_loss():
    batch = collate(hole("broken", "prose"), a_record(1))
    assert (batch.labels[0] == NO_LOSS).all()
    assert [page.row for page in batch.shown] == [1]
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


def test_maps_are_made_only_where_they_are_asked_for():
    batch = collate(a_record(1), spec=replace(SPEC, glyphs=False))
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
    assert {tensor.device.type for tensor in (moved.tokens, *moved.views, moved.layout, *moved.glyphs)} == {
        "meta"
    }
    assert moved.views[0].stride(1) == 0
    assert moved.keys == batch.keys
    assert torch.equal(batch.to("cpu").views[0], batch.views[0])


def test_a_prompt_batch_ends_where_the_answer_begins():
    pages = [a_record(1).pages[0], np.zeros((50, 40, 3), np.uint8)]
    batch = prompt_batch(pages, "\nFree OCR.", TOKENIZER, SPEC)
    trained = collate(a_record(1))
    length = 1 + IMAGE_POSITIONS + len("\nFree OCR.")
    assert batch.tokens.shape == (2, length)
    assert torch.equal(batch.tokens[0], trained.tokens[0, :length])
    assert torch.equal(batch.views[0][0], trained.views[0][0])
    assert [page.row for page in batch.shown] == [0, 1]
    assert not batch.padding.any()
    assert (batch.labels == NO_LOSS).all()
    with pytest.raises(DataError, match=r"data\.max_length="):
        prompt_batch(pages, "x" * 300, TOKENIZER, SPEC)


def test_rows_end_at_the_multiple_that_ranks_share_out_and_never_beyond_max_length():
    length = int((~collate(a_record(1)).padding).sum())
    assert collate(a_record(1), spec=replace(SPEC, row_multiple=24)).tokens.shape[1] == -(-length // 24) * 24
    tight = replace(SPEC, row_multiple=240, max_length=length + 1)
    assert collate(a_record(1), spec=tight).tokens.shape[1] == length + 1


def big_page(number: int, height: int, width: int):
    """A record with one page of other pixels than a view, with a glyph map in cells of 4 pixels."""
    random = np.random.default_rng(number)
    page = random.integers(0, 256, (height, width), dtype=np.uint8)
    glyphs = random.integers(0, 254, (-(-height // 4), -(-width // 4)), dtype=np.uint8)
    return replace(a_record(number), pages=(page,), glyphs=glyphs)


def test_pages_of_several_modes_stand_beside_each_other_in_stacks_of_one_size():
    spec = replace(SPEC, modes=("32", "48", "48+32"), max_length=300)
    records = [big_page(number, 40 + 13 * number, 70) for number in range(9)]
    batch = collate(*records, spec=spec)
    modes = [spec.mode_of(record.key) for record in records]
    assert {mode.name for mode in modes} == set(spec.modes)
    assert [stack.shape[-1] for stack in batch.views] == [32, 48]
    for row, (record, mode) in enumerate(zip(records, modes)):
        expected = views(record.pages[0], mode)
        found = views_of(batch, row)
        for shown, pixels in zip(found, (expected.overview, *expected.tiles), strict=True):
            assert np.array_equal(shown.numpy(), pixels)
        assert int((batch.tokens[row] == TOKENIZER.image).sum()) == positions(mode, 4, expected.grid)
        alone = collate(record, spec=spec)
        length = alone.tokens.shape[1]
        assert torch.equal(batch.tokens[row, :length], alone.tokens[0])


def test_the_layout_has_local_rows_then_global_rows_then_the_separator():
    """Written out by the rule of the reference with torch's own operations, for a page of 2 x 3 tiles."""
    spec = replace(SPEC, modes=("48+32",), max_length=300)
    batch = collate(big_page(1, 96, 64), spec=spec)  # tiles of 32: f2 = 2; overview of 48: f = 3
    (page,) = batch.shown
    assert page.grid == (2, 3)
    tiles, overview = torch.arange(6 * 4), 24 + torch.arange(9)
    newline, separator = 33, 34
    local = tiles.view(3, 2, 2, 2).permute(0, 2, 1, 3).reshape(6, 4)
    expected = [
        torch.cat([grid, torch.full((len(grid), 1), newline)], dim=1).flatten()
        for grid in (local, overview.view(3, 3))
    ]
    assert batch.layout.tolist() == torch.cat([*expected, torch.tensor([separator])]).tolist()


def test_glyph_maps_of_tiles_go_through_the_tiles_transform():
    spec = replace(SPEC, modes=("48+32",), max_length=300)
    record = big_page(1, 96, 64)
    batch = collate(record, spec=spec)
    (page,) = batch.shown
    maps = dict(zip((stack.shape[-1] for stack in batch.views), batch.glyphs))
    places = placements((96, 64), mode_of("48+32"))
    for (size, number), place in zip((page.overview, *page.tiles), places, strict=True):
        expected = resample_glyphs(record.glyphs, 4, (96, 64), place, 2 * size // 4)
        assert np.array_equal(maps[size][number].numpy(), expected)
    # pages of the very pixels of their tiles: each cell of 4 pixels is two of the tile's
    assert np.array_equal(maps[32][3][::2, ::2].numpy(), record.glyphs[8:16, 8:16])


def test_zero_3_gets_a_view_of_every_size_in_every_batch():
    spec = replace(SPEC, modes=("32", "48+32"), every_size=True)
    for records in ([a_record(1, pages=0)], [a_record(1)], [a_record(number) for number in range(4)]):
        assert [stack.shape[-1] for stack in collate(*records, spec=spec).views] == [32, 48]


def test_texts_of_the_pages_come_in_the_order_of_their_views():
    spec = replace(SPEC, modes=("32", "48"), texts=True, max_length=300)
    records = [a_record(number) for number in range(6)]
    batch = collate(*records, spec=spec)
    first = 0
    for stack in batch.views:
        rows = [page.row for page in batch.shown if page.overview[0] == stack.shape[-1]]
        for number, row in enumerate(rows):
            text = batch.texts[first + number]
            assert text[text >= 0].tolist() == TOKENIZER.encode(records[row].target)
        first += len(stack)
    assert collate(a_record(1, pages=0), spec=spec).texts.tolist() == [[-1]]
    prompts = prompt_batch(
        [record.pages[0] for record in records], "", TOKENIZER, spec, [record.target for record in records]
    )
    assert prompts.texts[2][prompts.texts[2] >= 0].tolist() == TOKENIZER.encode(records[2].target)
