"""Distillation as a user runs it: a teacher of many vision tokens along with its student, or written down before; resumed, and
followed by a stage that knows nothing of either.
"""

import json
from pathlib import Path

import pytest

from tests import forked

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real pages in `pages`, and in `teacher` a run of a wider and deeper model that saw them in 9 vision tokens."""
    from data_pipeline.build import build
    from data_pipeline.config import BuildConfig, CorpusConfig, PageConfig

    folder = tmp_path_factory.mktemp("distill")
    corpus = CorpusConfig(
        held_out=["persuasion"], language="en", pages=48, held_out_pages=8, held_out_random_pages=8,
        shard_pages=24, prompt="", page=PageConfig(size=96),
    )  # fmt: skip
    build(BuildConfig(corpus=corpus, out=str(folder / "pages"), workers=1))
    wider = (
        "data.modes=['96']",
        "model.decoder.width=160",
        "model.decoder.layers=4",
        "run.name=teacher",
        "stage.steps=2",
    )
    done(train(folder, "stage=encoder", *wider))
    return folder


def train(folder: Path, *overrides: str) -> list[str]:
    return [
        "train", f"data.root={folder}/pages", f"run.directory={folder}", "stage.steps=4", "stage.checkpoint_every=4",
        "stage.evaluate_every=4", "stage.evaluation_pages=4", "optim.warmup_steps=1", "data.global_batch=4",
        "data.micro_batch=2", "logger.console_every=1", *overrides,
    ]  # fmt: skip


def done(arguments: list[str], world: int = 1) -> str:
    ended = forked.run(arguments, world)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def steps(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "grad_norm" in row]


def test_a_student_of_few_vision_tokens_learns_beside_its_teacher_and_the_next_stage_begins_from_it(
    folder: Path,
) -> None:
    taught = ("stage=distill", "distill=features", f"distill.teacher={folder}/teacher", "distill.teacher_modes=['96']",
              "run.name=student")  # fmt: skip
    done(train(folder, *taught))
    said = done(train(folder, *taught, "stage.steps=6"))
    assert "resumed after step 4" in said
    rows = steps(folder / "student")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row[name] > 0 for row in rows for name in ("loss", "divergence", "hidden", "features"))
    done(
        train(
            folder, "stage=pretrain", f"stage.start_from={folder}/student", "run.name=next", "stage.steps=1"
        )
    )
    (row,) = steps(folder / "next")
    assert "divergence" not in row and row["loss"] < steps(folder / "student")[0]["loss"] + 1


def test_a_student_in_a_pipeline_learns_from_what_was_written_down(folder: Path) -> None:
    done(
        [
            "train.cache_teacher",
            f"teacher={folder}/teacher",
            f"out={folder}/told",
            "top_k=16",
            "batch_size=8",
        ],
        2,
    )
    cached = (
        "stage=distill",
        "distill=cached",
        f"distill.cache={folder}/told",
        "data.pack=true",
        "data.max_length=256",
    )
    done(train(folder, *cached, "run.name=alone"))
    done(train(folder, *cached, "run.name=pipeline", "parallel=pp2"), 2)
    alone, pipeline = steps(folder / "alone"), steps(folder / "pipeline")
    assert [row["divergence"] for row in pipeline] == pytest.approx(
        [row["divergence"] for row in alone], rel=1e-4
    )
    assert [row["batch"] for row in pipeline] == [row["batch"] for row in alone]
    again = forked.run(train(folder, *cached, "distill.temperature=2", "run.name=other"))
    assert (
        again.returncode == 2
        and "Choose distill.temperature=1.0" in again.stderr
        and "Traceback" not in again.stderr
    )
