"""The view command: counts, verified checksums, and a sheet on which pages stand with their text."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.build import build
from data_pipeline.config import BuildConfig, CorpusConfig
from data_pipeline.manifest import Manifest
from data_pipeline.view import main, sample


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("viewed")
    corpus = CorpusConfig(
        held_out=["persuasion"],
        ratios=[4],
        pages=12,
        held_out_pages=4,
        held_out_random_pages=0,
        shard_pages=5,
    )
    build(BuildConfig(corpus=corpus, out=str(out), workers=1))
    return out


def test_counts_and_checksums_are_printed_and_a_sheet_is_written(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(shards)]) == 0
    printed = capsys.readouterr().out
    assert "train/ratio-4" in printed and "held_out/ratio-4" in printed and printed.count("verified") == 2
    sheet = np.asarray(Image.open(shards / "contact_sheet.png"))
    first = sample(shards / "held_out/ratio-4", Manifest.load(shards / "held_out/ratio-4"), 0).pages[0]
    enlarged = np.kron(first, np.ones((2, 2), np.uint8))[1:-1, 1:-1]  # inside the frame
    rows, columns = enlarged.shape
    candidates = [(row, 17) for row in range(sheet.shape[0] - rows)]
    assert any(
        (sheet[row : row + rows, column : column + columns] == enlarged).all() for row, column in candidates
    )


def test_samples_are_found_in_any_shard(shards: Path) -> None:
    manifest = Manifest.load(shards / "train/ratio-4")
    assert [sample(shards / "train/ratio-4", manifest, number).key[-2:] for number in (0, 4, 5, 11)] == [
        "00",
        "04",
        "05",
        "11",
    ]


def test_one_set_can_be_viewed_by_itself(shards: Path, tmp_path: Path) -> None:
    assert main([str(shards / "train/ratio-4"), "--pages", "3", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_damaged_shard_is_named_and_the_exit_code_says_so(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = shards / "train/ratio-4/shard-00001.tar"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    try:
        assert main([str(shards)]) == 1
        captured = capsys.readouterr()
        assert "train/ratio-4/shard-00001.tar: checksum differs" in captured.err and "BAD" in captured.out
    finally:
        victim.write_bytes(whole)


def test_a_folder_without_shards_is_one_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "python -m data_pipeline.build" in capsys.readouterr().err
