"""A teacher's texts as data: its own readings, under the same keys, told apart by their source."""

from dataclasses import replace
from pathlib import Path

import pytest

from conf.errors import ConfigError
from data_pipeline.batch import BatchSpec
from data_pipeline.reader import records
from tests.train.generate.tiny_run import write_run
from tests.train.shard_set import make_records, write_shard_set
from train.config import ParallelConfig
from train.generate.decoding import read
from train.generate.options import Decoding
from train.load import load_trained
from train.relabel.command import write
from train.relabel.config import RelabelConfig, check


@pytest.fixture(scope="module")
def run(one_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "reader", seed=7)  # one that ends some of its texts


def test_targets_are_what_the_teacher_reads_off_each_page(run: Path, tmp_path: Path) -> None:
    originals = make_records(6)
    originals[2] = replace(originals[2], pages=())
    data = write_shard_set(tmp_path / "pages", originals)
    config = RelabelConfig(
        teacher=str(run), data=[str(data)], out=str(tmp_path / "read"), max_new_tokens=60, batch_size=4
    )
    check(config)
    (manifest,) = write(config, ParallelConfig())
    trained = load_trained(run)
    spec = BatchSpec(("64",), 8, 96)
    seen = [record for record in originals if record.pages]
    found = read(trained.model, trained.tokenizer, [r.pages[0] for r in seen], "", spec, Decoding(60))
    wanted = {record.key: one.text for record, one in zip(seen, found) if one.finished}
    assert wanted, "the model ends none of its texts"
    written = list(records(tmp_path / "read" / "pages"))
    assert {record.key: record.target for record in written} == wanted
    assert all(record.source == "test; text by reader step 7" for record in written)
    assert manifest.refused.get("no page") == 1
    assert manifest.samples + sum(manifest.refused.values()) == len(originals)


def test_impossible_settings_are_refused_before_a_model_is_loaded(run: Path, tmp_path: Path) -> None:
    for wrong, told in ((RelabelConfig(teacher=str(run), out="x", mode="huge"), "mode=huge"),
                        (RelabelConfig(teacher=str(run), out="x", max_new_tokens=0), "max_new_tokens=0")):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            check(wrong)
