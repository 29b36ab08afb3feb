"""Reports of runs that a stranger made: their words stay words, and their pictures are their own."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from train.report.reading import data_uri
from train.report.write import write_report

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>"


class Scripts(HTMLParser):
    """What in a page would run, or be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Notes elements and attributes that do something by themselves."""
        names = [
            name
            for name, value in attributes
            if name.startswith("on") or (value or "").startswith(("javascript:", "http"))
        ]
        if tag in ("script", "iframe", "object", "embed", "link", "base") or names:
            self.found.append(f"<{tag} {names}>")


def a_run(folder: Path) -> Path:
    """A recipe whose every word is an attack."""
    stage = folder / "stage"
    stage.mkdir(parents=True)
    rows = [
        {
            "step": step,
            "loss": 5.0 / step,
            "tokens": 10,
            "pages": step,
            "seconds": 0.1,
            "level": 0,
            ATTACK: 1.0,
        }
        for step in range(1, 6)
    ]
    rows.append(
        {
            "step": 5,
            "image_gain": 1.0,
            f"accuracy/{ATTACK}": 0.5,
            f"image_gain/{ATTACK}": 0.7,
            f"cross_entropy/{ATTACK}": 1.0,
        }
    )
    rows.append({"step": 5, "note": ATTACK})
    (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (stage / "status.json").write_text(
        json.dumps({"state": ATTACK, "device": ATTACK, "parameters": 5, "error": ATTACK})
    )
    (stage / "config.yaml").write_text(json.dumps({"run": {"name": ATTACK}, "stage": {"name": ATTACK}}))
    (stage / "overrides.txt").write_text(ATTACK)
    movement = {"step": 5, "layer": ATTACK, "rows": 4, "magnitude": 0.1, "direction": 0.2, "correlation": 0.3}
    (stage / "weight_decomposition.jsonl").write_text(
        "".join(json.dumps(movement | {"step": step}) + "\n" for step in (5, 10))
    )
    (folder / "recipe.json").write_text(
        json.dumps({"name": ATTACK, "steps": [{"name": ATTACK, "state": "done", "seconds": 2.0}]})
    )
    (folder / "stages").mkdir()
    source = {"source": ATTACK, "precision": 0.5, "image_gain": 1.0}
    compared = {"stages": [{"name": ATTACK, "sources": [source], "megabytes": 1.0, "steps": 5}]}
    (folder / "stages" / "stages.json").write_text(json.dumps(compared))
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    sample = {
        "source": ATTACK,
        "page": "../../private.png",
        "reference": ATTACK,
        "hypothesis": ATTACK + "x",
        "precision": 0.9,
        "choice": ATTACK,
    }
    row = {
        "mode": ATTACK, "source": ATTACK, "vision_tokens": 4, "text_tokens": 20, "bytes_per_vision_token": 5.0, "compression": 5.0,
        "precision": 0.6, "precision_shuffled": 0.1, "precision_random_text": 0.2, "precision_blank": 0.1, "pages": 4, "image_gain": 1.0,
        "precision_interval": [0.5, 0.7],
    }  # fmt: skip
    told = {
        "name": ATTACK,
        "main_mode": ATTACK,
        "curve": [row],
        "samples": [sample],
        "parameters": {"total": 5},
    }
    (evaluation / "metrics.json").write_text(json.dumps(told))
    return folder


def test_no_word_of_a_run_becomes_a_program_and_no_picture_of_others_is_shown(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 77).save(tmp_path / "private.png")
    private = base64.b64encode((tmp_path / "private.png").read_bytes()).decode()
    page = write_report(a_run(tmp_path / "run")).read_text(encoding="utf-8")
    seen = Scripts()
    seen.feed(page)
    assert not seen.found
    assert "alert(1)" in page, "the words are not shown at all"
    assert private not in page


def test_a_picture_lies_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for place in (tmp_path / "private.png", tmp_path / "in" / "own.png"):
        Image.new("L", (8, 8)).save(place)
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "private.png")
    assert data_uri(tmp_path / "in", "own.png") is not None
    for name in ("../private.png", str(tmp_path / "private.png"), "link.png", "own.txt"):
        assert data_uri(tmp_path / "in", name) is None


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"[]", b'{"curve": 7}', b"\xff\xfe"])
def test_figures_that_are_none_leave_the_rest_of_the_report(tmp_path: Path, content: bytes) -> None:
    run = a_run(tmp_path / "run")
    for name in ("recipe.json", "stages/stages.json", "stage/status.json", "stage/config.yaml"):
        before = (run / name).read_bytes()
        (run / name).write_bytes(content)
        assert write_report(run).is_file()
        (run / name).write_bytes(before)
