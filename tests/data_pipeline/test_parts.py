"""A corpus of parts: samples of several kinds and of people's own folders, built, named when refused, the same every time."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.build import build
from data_pipeline.config import BuildConfig, CorpusConfig, PageConfig, PartConfig, check
from data_pipeline.errors import DataError
from data_pipeline.manifest import Manifest, verify
from data_pipeline.reader import records

SMALL = PageConfig(font=["DejaVu Sans Mono"], font_px=14)
CORPUS = CorpusConfig(
    name="parts",
    held_out_fraction=0.2,
    pages=0,
    held_out_pages=0,
    held_out_random_pages=0,
    shard_pages=6,
    max_refused=0.5,
    page=SMALL,
    parts={
        "drawn": PartConfig("geometry", 14, 4, {"size": 128, "most_segments": 2}),
        "lines": PartConfig("text", 7, 3, {"budget": 24, "random_text": 0.3}),
        "words": PartConfig("prose", 8, 4, {"texts": ["austen"], "fewest": 32, "tokens": 100}),
    },
)


def run(out: Path, corpus: CorpusConfig = CORPUS, workers: int = 1) -> dict[str, Manifest]:
    manifests = build(BuildConfig(corpus=corpus, out=str(out), workers=workers))
    return {f"{manifest.split}/{manifest.name}": manifest for manifest in manifests}


def digests(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*.tar"))
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    run(out)
    return out


def test_each_part_is_a_set_a_side_with_its_kind_licence_and_seed(built: Path) -> None:
    for name, kind, samples in (("drawn", "geometry", 14), ("words", "prose", 8)):
        for side, count in (("train", samples), ("held_out", 4)):
            folder = built / side / name
            manifest = Manifest.load(folder)
            assert verify(folder, manifest) == [] and manifest.samples == count
            assert manifest.renderer["kind"] == kind and manifest.config["repeated"]["in the set"] == 0
            found = list(records(folder))
            assert [record.key for record in found] == [
                f"{side}-{name}-{number:08d}" for number in range(count)
            ]
            assert [record.seed for record in found] == list(range(count))
            assert all(record.kind == kind and record.license and record.language for record in found)
    assert Manifest.load(built / "held_out" / "drawn").config["repeated"]["in training"] == 0


def test_a_killed_build_goes_on_to_the_same_bytes_in_any_number_of_processes(
    built: Path, tmp_path: Path
) -> None:
    expected = digests(built)
    again = tmp_path / "again"
    shutil.copytree(built, again)
    for path in list(again.rglob("shard-00001.*")) + list(again.rglob("manifest.json")):
        path.unlink()  # what a kill leaves: some shards finished, no manifest
    run(again, workers=2)
    assert digests(again) == expected


def test_tasks_that_share_a_build_give_the_same_bytes_and_the_last_one_completes_the_sets(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = [BuildConfig(corpus=CORPUS, out=str(tmp_path), workers=1, task=task, tasks=3) for task in range(3)]
    killed = tmp_path / "train" / "drawn" / "shard-00000.tar.node-7.part"
    killed.parent.mkdir(parents=True)
    killed.touch()
    for share in (shares[2], shares[0]):
        assert build(share) == [] and not list(tmp_path.rglob("manifest.json"))
    assert "task 0 of 3 has written its " in capsys.readouterr().out
    for manifest in build(shares[1]):
        folder = Path(manifest.split) / manifest.name
        assert verify(tmp_path / folder, manifest) == []
        assert (tmp_path / folder / "manifest.json").read_text() == (built / folder / "manifest.json").read_text()
    assert digests(tmp_path) == digests(built)
    assert not list(tmp_path.rglob("*.part"))
    damaged = tmp_path / "train" / "drawn" / "shard-00001.tar"  # the second of all: of task 1
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{damaged}, which another task wrote, is damaged"):
        build(shares[0])


def test_other_options_are_another_build(built: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(built, again)
    parts = CORPUS.parts | {
        "drawn": replace(CORPUS.parts["drawn"], options={"size": 160, "most_segments": 2})
    }
    with pytest.raises(DataError, match="overwrite=true"):
        run(again, replace(CORPUS, parts=parts))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (PartConfig("geometri"), r"corpus\.parts\.new\.kind=geometri: .*geometry"),
        (
            PartConfig("geometry", options={"sise": 3}),
            r"corpus\.parts\.new\.options\.sise: .*Did you mean size",
        ),
        (
            PartConfig("geometry", options={"size": "big"}),
            r"corpus\.parts\.new\.options\.size=big: must be a whole number",
        ),
        (PartConfig("geometry", options={"size": 0}), r"corpus\.parts\.new\.options\."),
        (PartConfig("geometry", samples=-1), r"corpus\.parts\.new\.samples= is -1"),
    ],
)
def test_a_part_that_cannot_be_built_names_its_option(part: PartConfig, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check(BuildConfig(corpus=replace(CORPUS, parts={"new": part})))


def test_held_out_samples_need_a_share_that_is_held_out() -> None:
    with pytest.raises(DataError, match=r"corpus\.held_out_fraction="):
        check(BuildConfig(corpus=replace(CORPUS, held_out_fraction=0.0)))


def test_a_folder_of_conversations_is_recognised_and_its_bad_lines_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = []
    for number in range(20):
        Image.fromarray(np.full((20, 40), number, np.uint8)).save(folder / f"{number}.png")
        turns = [
            {"role": "user", "content": "<image>Which?"},
            {"role": "assistant", "content": f"number {number}"},
        ]
        lines.append(json.dumps({"messages": turns, "images": [f"{number}.png"]}))
    lines[3] = lines[3][:30]
    (folder / "data.jsonl").write_text("\n".join(lines))
    corpus = CorpusConfig(
        name="mine", source="folder", path=str(folder), held_out_fraction=0.2, max_refused=0.2, page=SMALL
    )
    manifests = run(tmp_path / "out", corpus)
    assert {name.partition("/")[0] for name in manifests} == {"train", "held_out"}
    assert sum(manifest.samples for manifest in manifests.values()) == 19
    named = [
        json.loads(line)
        for path in (tmp_path / "out").rglob("refused.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(named) == 1 and "data.jsonl" in named[0]["item"] and "4" in named[0]["item"]
    with pytest.raises(DataError, match=r"items were refused, above corpus\.max_refused="):
        (folder / "data.jsonl").write_text("\n".join(line[:20] for line in lines))
        run(tmp_path / "all bad", corpus)
