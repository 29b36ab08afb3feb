"""What a teacher predicts, on disk: as it predicts it, found by key and text, whole after a kill, for its own data only."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.errors import DataError, SampleError
from data_pipeline.prediction_sets import require, sets_in
from data_pipeline.predictions import PredictionReader
from data_pipeline.reader import records
from data_pipeline.tokenizer import byte_tokenizer
from tests.parallel.ranks import launch
from tests.train.distill import told_ranks
from tests.train.shard_set import make_records, write_shard_set
from train.cache_teacher.command import write
from train.cache_teacher.config import CacheConfig
from train.cache_teacher.predicting import Predictor
from train.config import ParallelConfig

ONE = ParallelConfig()


@pytest.fixture(scope="module")
def config(teacher_run: Path, pages: Path, tmp_path_factory: pytest.TempPathFactory) -> CacheConfig:
    out = tmp_path_factory.mktemp("told")
    return CacheConfig(
        teacher=str(teacher_run),
        data=[str(pages)],
        out=str(out),
        modes=["128"],
        top_k=12,
        temperature=2.0,
        batch_size=4,
    )


@pytest.fixture(scope="module")
def told(config: CacheConfig) -> Path:
    write(config, ONE)
    return Path(config.out)


def labels_of(text: str) -> list[int]:
    tokenizer = byte_tokenizer()
    return [*tokenizer.encode(text), tokenizer.eos]


def test_it_is_what_the_teacher_predicts(config: CacheConfig, told: Path, pages: Path) -> None:
    """Against the softmax of its whole logits, up to fp16."""
    predictor, reader = Predictor.of(config, ONE), PredictionReader(told)
    for record in records(pages):
        batch = predictor.collator([record], [""])
        with torch.no_grad():
            logits = predictor.teacher.model(batch).logits[batch.labels != -100]
        wanted = (logits / 2.0).softmax(-1)
        found = reader.find(record.key, labels_of(record.target))
        assert found.ids.shape == (len(wanted), 12) and found.logs.shape == (len(wanted), 13)
        best = wanted.topk(12, -1)
        torch.testing.assert_close(found.logs[:, :12].float().exp(), best.values, rtol=5e-3, atol=1e-4)
        torch.testing.assert_close(wanted.gather(1, found.ids.long()), best.values)
        torch.testing.assert_close(
            found.logs.float().exp().sum(1), torch.ones(len(wanted)), rtol=5e-3, atol=0
        )
    reader.close()


def test_tensor_ranks_that_share_the_teacher_write_the_same(
    config: CacheConfig, told: Path, pages: Path, tmp_path: Path
) -> None:
    """Up to the order of additions, as fp16 shows it."""
    launch(told_ranks.play, 2, asdict(replace(config, out=str(tmp_path), tensor=2)))
    one, other = PredictionReader(told), PredictionReader(tmp_path)
    for record in records(pages):
        mine, its = (reader.find(record.key, labels_of(record.target)) for reader in (one, other))
        assert torch.equal(mine.ids, its.ids)
        torch.testing.assert_close(mine.logs, its.logs, rtol=2e-3, atol=2e-3)
    one.close()
    other.close()


def test_only_what_is_missing_is_made_again_and_gives_the_same_bytes(config: CacheConfig, told: Path) -> None:
    (shard,) = told.glob("*/shard-00000.tar")
    before, manifest = shard.read_bytes(), (shard.parent / "manifest.json").read_bytes()
    stamp = shard.stat().st_mtime_ns
    write(config, ONE)
    assert shard.stat().st_mtime_ns == stamp, "a whole shard was written again"
    shard.with_suffix(".done.json").unlink()
    shard.unlink()
    write(config, ONE)
    assert shard.read_bytes() == before and (shard.parent / "manifest.json").read_bytes() == manifest


def test_other_settings_are_not_mixed_in_without_leave(config: CacheConfig, told: Path) -> None:
    with pytest.raises(DataError, match="overwrite=true"):
        write(replace(config, top_k=5), ONE)


def test_a_text_that_was_cut_is_found_and_another_one_is_refused(told: Path, pages: Path) -> None:
    reader, record = PredictionReader(told), next(records(pages))
    labels = labels_of(record.target)
    whole, cut = reader.find(record.key, labels), reader.find(record.key, labels[:3])
    assert torch.equal(whole.ids[:3], cut.ids) and torch.equal(whole.logs[:3], cut.logs)
    assert reader.find("a hole", []).ids.shape == (0, 12)
    with pytest.raises(SampleError, match="was of another text"):
        reader.find(record.key, [*labels[:-2], 1, labels[-1]])
    with pytest.raises(SampleError, match="is not there"):
        reader.find("nobody", labels)
    reader.close()


def test_data_that_it_was_not_told_of_and_other_shard_sets_are_refused(
    told: Path, pages: Path, tmp_path: Path
) -> None:
    other = write_shard_set(tmp_path / "other", make_records(3, seed=5))
    require(told, {"mine": str(pages)})
    with pytest.raises(
        DataError, match="no predictions of data.train.other .* Write them: python -m train.cache_teacher"
    ):
        require(told, {"mine": str(pages), "other": str(other)})
    with pytest.raises(DataError, match="not of a teacher's predictions"):
        sets_in(other)
    with pytest.raises(DataError, match="no finished predictions there"):
        sets_in(tmp_path / "nothing")


def test_sets_of_different_teachers_are_not_taken_together(told: Path, tmp_path: Path) -> None:
    (first,) = told.glob("*/manifest.json")
    content = json.loads(first.read_text())
    for number, k in enumerate((12, 13)):
        content["config"]["top_k"] = k
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="top_k 12 and 13"):
        sets_in(tmp_path)


def test_a_damaged_sample_is_a_sample_error(told: Path, pages: Path, tmp_path: Path) -> None:
    from data_pipeline.predictions import decode, encode

    good = encode("k", np.array([1, 2]), np.zeros((2, 3)), np.zeros((2, 4)))
    assert [array.shape for array in decode(good)] == [(2,), (2, 3), (2, 4)]
    for bad in (
        {**good, "ids.npy": b"nothing"},
        encode("k", np.array([1]), np.zeros((2, 3)), np.zeros((2, 4))),
    ):
        with pytest.raises(SampleError):
            decode(bad)
