"""Held-out cross-entropies and image_gain are what their definitions say."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_pipeline.batch import Collator, MicroBatch
from data_pipeline.record import Record
from parallel import topology
from tests.train.evaluate.reading_run import SPEC, TOKENIZER, tiny_model
from tests.train.shard_set import make_records
from train.model.optical import OpticalModel
from train.probe import blanked, collate, probe


@pytest.fixture(scope="module")
def model() -> Iterator[OpticalModel]:
    topology.start(topology.Topology(), seed=0)
    yield tiny_model()
    topology.stop()


def row_loss(model: OpticalModel, record: Record, page: np.ndarray) -> tuple[float, int, int]:
    """(nats, correct, tokens) of one record's text with `page` before it, computed for this row alone."""
    batch = Collator(TOKENIZER, SPEC)([replace(record, pages=(page,))], ["x"])
    with torch.no_grad():
        logits = model.eval()(batch).logits[0]
    nats, correct, tokens = 0.0, 0, 0
    for position, label in enumerate(batch.labels[0].tolist()):
        if label >= 0:
            nats -= float(F.log_softmax(logits[position].float(), dim=-1)[label])
            correct += int(logits[position].argmax() == label)
            tokens += 1
    return nats, correct, tokens


def test_probe_measures_what_its_definitions_say(model: OpticalModel) -> None:
    items = make_records(5)
    found = probe(model, {"s": collate(items, "s", Collator(TOKENIZER, SPEC), 8)}, with_blank=True)["s"]
    right = [row_loss(model, item, item.pages[0]) for item in items]
    wrong = [row_loss(model, item, items[(index + 1) % 5].pages[0]) for index, item in enumerate(items)]
    blank = [row_loss(model, item, np.full((64, 64), 255, dtype=np.uint8)) for item in items]
    tokens = sum(row[2] for row in right)
    assert found["accuracy"] == pytest.approx(sum(row[1] for row in right) / tokens)
    assert found["cross_entropy"] == pytest.approx(sum(row[0] for row in right) / tokens, rel=1e-4)
    assert found["cross_entropy_shuffled"] == pytest.approx(sum(row[0] for row in wrong) / tokens, rel=1e-4)
    assert found["cross_entropy_blank"] == pytest.approx(sum(row[0] for row in blank) / tokens, rel=1e-4)
    gain = found["cross_entropy_shuffled"] - found["cross_entropy"]
    assert found["image_gain"] == pytest.approx(gain, abs=1e-6)
    assert abs(gain) > 1e-3  # the pages matter to this model, or this test shows nothing


def test_image_gain_of_a_model_that_cannot_see_is_exactly_zero(
    model: OpticalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    see = model.encode

    def blind(batch: MicroBatch) -> object:
        return see(replace(batch, views=tuple(map(torch.zeros_like, batch.views))))

    monkeypatch.setattr(model, "encode", blind)
    found = probe(model, {"s": collate(make_records(6), "s", Collator(TOKENIZER, SPEC), 3)})["s"]
    assert found["image_gain"] == 0.0


def test_a_single_page_has_no_image_gain(model: OpticalModel) -> None:
    found = probe(model, {"s": collate(make_records(1), "s", Collator(TOKENIZER, SPEC), 8)})["s"]
    assert np.isnan(found["image_gain"]) and np.isfinite(found["cross_entropy"])


def test_batches_have_equally_many_rows_and_none_is_left_with_one_page(model: OpticalModel) -> None:
    for count in range(2, 40):
        batches = collate(make_records(count), "s", Collator(TOKENIZER, SPEC), 4)
        pages = [len(batch.shown) for batch in batches]
        assert sum(pages) == count and min(pages) >= 2
        assert {len(batch.keys) for batch in batches} == {max(pages)} and max(pages) <= 4


def test_blank_pages_keep_the_colour_of_the_paper() -> None:
    batch = Collator(TOKENIZER, SPEC)(make_records(2), ["s", "s"])
    views = torch.full((2, 3, 8, 8), 250, dtype=torch.uint8)
    views[0, :, :3] = 0
    views[1] = 127
    [found] = blanked(replace(batch, views=(views,))).views
    assert found[0].unique().tolist() == [250] and found[1].unique().tolist() == [127]
