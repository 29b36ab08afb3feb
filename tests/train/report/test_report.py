"""The report shows what a run holds, says what it lacks, and never more than that."""

import json
import math
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageDraw

from data_pipeline.errors import UserError
from train.report import write_report
from train.report.reading import marked
from train.report.run import read_run
from train.report.summary import headline
from train.report.svg import Scale, round_ticks, short, spread

CONFIG = "run:\n  name: {name}\n  directory: /home/somebody/secret/runs\nmodel:\n  name: tiny\nseed: 0\n"


def write_stage(
    folder: Path, steps: int, *, state: str = "finished", reads: bool = True, glyphs: bool = False
) -> None:
    """A stage's folder as `python -m train` leaves it; the losses follow the shape of a real run."""
    folder.mkdir(parents=True)
    noise = random.Random(folder.name)
    (folder / "config.yaml").write_text(CONFIG.format(name=folder.name))
    (folder / "overrides.txt").write_text(f"stage={folder.name}\nseed=0\n")
    (folder / "status.json").write_text(
        json.dumps({"state": state, "step": steps, "parameters": {"total": 1_310_720}})
    )
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            learned = 1 / (1 + math.exp(-(step - 0.35 * steps) / (0.06 * steps)))
            row = {
                "step": step,
                "loss": 4.7 * math.exp(-step / (0.04 * steps)) + 1.9 - 1.6 * learned + noise.gauss(0, 0.09),
                "tokens": 420 * step,
                "pages": 16 * step,
                "seconds": 0.06,
                "level": int(step > 0.6 * steps),
            }
            if glyphs:
                row |= {
                    "patch_glyphs": 3.2 * math.exp(-step / (0.1 * steps)) + 0.2 + noise.gauss(0, 0.03),
                    "token_glyphs": 3.4 * math.exp(-step / (0.25 * steps)) + 0.3 + noise.gauss(0, 0.03),
                }
                row["objective"] = row["loss"] + row["patch_glyphs"] + row["token_glyphs"]
            file.write(json.dumps(row) + "\n")
            if step % max(1, steps // 16) == 0:
                gain = 8.4 * learned if reads else 0.01
                look = {"step": step, "image_gain": gain}
                for index, source in enumerate(("ratio-4", "ratio-8")):
                    look[f"image_gain/{source}"] = gain / (1 + 0.4 * index)
                    look[f"accuracy/{source}"] = 0.3 + 0.66 * learned / (1 + 0.35 * index)
                    look[f"cross_entropy/{source}"] = 2.0 - 1.8 * learned / (1 + index)
                file.write(json.dumps(look) + "\n")
        file.write(json.dumps({"step": steps, "note": "curriculum: level 1 adds ratio-8"}) + "\n")


def curve_row(source: str, ratio: float, precision: float, reads: bool) -> dict:
    return {
        "source": source,
        "mode": "64",
        "vision_tokens": 16,
        "text_tokens": 16 * ratio,
        "compression": ratio,
        "pages": 64,
        "bytes_per_vision_token": ratio,
        "precision": precision,
        "precision_interval": [precision - 0.03, precision + 0.02],
        "word_precision": precision - 0.1,
        "precision_shuffled": 0.19,
        "precision_shuffled_interval": [0.17, 0.21],
        "precision_blank": 0.12,
        "precision_random_text": 0.47 * precision,
        "accuracy": precision + 0.02,
        "cross_entropy": 0.12,
        "cross_entropy_shuffled": 8.6,
        "image_gain": 8.48 if reads else 0.01,
    }


def write_evaluation(folder: Path, *, reads: bool = True) -> None:
    """An evaluation with two points of the curve and a few samples with their pages."""
    folder = folder / "evaluation"
    (folder / "samples").mkdir(parents=True)
    samples = []
    texts = [
        ("best", "the whole family were again united", "the whole family were again united", False),
        ("median", "it was a truth acknowledged by all", "it vas a truth acknowledgd by  all", False),
        (
            "worst",
            "<b>Elizabeth & Jane</b> had walked out",
            "<b>Elizaboth & Jan</b> had talked <i>out",
            False,
        ),
        ("median", "tirre bopal quent asto", "tirro bopal quint", True),
    ]
    for index, (choice, reference, hypothesis, lot) in enumerate(texts):
        page = Image.new("L", (128, 128), 255)
        drawing = ImageDraw.Draw(page)
        for line, start in enumerate(range(0, len(reference), 14)):
            drawing.text((6, 6 + 18 * line), reference[start : start + 14], fill=0)
        page.save(folder / "samples" / f"{index}.png")
        samples.append(
            {
                "source": "random-4" if lot else "ratio-4",
                "choice": choice,
                "page": f"samples/{index}.png",
                "reference": reference,
                "hypothesis": hypothesis,
                "precision": 0.9,
                "random": lot,
            }
        )
    evaluation = {
        "curve": [
            curve_row("ratio-8", 7.7, 0.685 if reads else 0.2, reads),
            curve_row("ratio-4", 3.9, 0.943 if reads else 0.2, reads),
        ],
        "main_mode": "64",
        "image_gain": 8.48 if reads else 0.01,
        "samples": samples,
        "device": "cpu",
        "parameters": {"total": 1_310_720},
        "sample_choice": "By precision among the 64 held-out pages of each source: the best, the median and the worst.",
    }
    (folder / "metrics.json").write_text(json.dumps(evaluation))


def write_run(folder: Path, *, steps: int = 64, reads: bool = True) -> Path:
    """A whole recipe's folder."""
    write_stage(folder / "pretrain", 2 * steps, reads=reads)
    write_stage(folder / "encoder", steps, glyphs=True, reads=reads)
    names = ("build", 14.2), ("encoder", 88.0), ("pretrain", 301.5), ("evaluate", 41.0)
    recipe = {
        "name": "smoke",
        "steps": [{"name": name, "seconds": seconds, "state": "done"} for name, seconds in names],
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    write_evaluation(folder, reads=reads)
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "smoke")


def headline_of(folder: Path) -> str:
    evaluation = read_run(folder).evaluation
    assert evaluation is not None
    return headline(evaluation["curve"])


def figures(page: str) -> list[ElementTree.Element]:
    """Every SVG of the page, parsed: they must be well-formed."""
    return [
        ElementTree.fromstring(found)
        for found in re.findall(r"<svg class=\"(?!logo).*?</svg>", page, re.DOTALL)
    ]


def test_report_json_holds_the_promised_keys_and_figures(run_folder: Path) -> None:
    write_report(run_folder)
    report = json.loads((run_folder / "report.json").read_text())
    assert {
        "stages",
        "image_gain",
        "curve",
        "parameters",
        "tokens_per_second",
        "config_hash",
        "device",
        "versions",
        "git_revision",
        "takes_off",
        "missing",
    } <= report.keys()
    assert [stage["name"] for stage in report["stages"]] == [
        "encoder",
        "pretrain",
    ]  # the recipe's order, not the alphabet's
    encoder = report["stages"][0]
    assert (encoder["steps"], encoder["pages"], encoder["tokens"]) == (64, 16 * 64, 420 * 64)
    assert encoder["seconds"] == pytest.approx(64 * 0.06, abs=0.1)
    assert encoder["first_loss"] == pytest.approx(4.7 * math.exp(-1 / (0.04 * 64)) + 1.9, abs=0.4)
    assert encoder["last_loss"] == pytest.approx(0.3, abs=0.2)
    assert report["tokens_per_second"] == pytest.approx(420 / 0.06, rel=0.02)
    assert report["image_gain"] == 8.48 and report["missing"] == []
    assert 0 < report["takes_off"]["pages"] < 16 * 64


def test_headline_puts_the_floor_beside_the_figure(run_folder: Path) -> None:
    assert headline_of(run_folder) == (
        "Reads 94 % of held-out text at 3.9 bytes per vision token. Guessing without the page: 19 %."
    )


def test_a_model_that_guesses_is_not_said_to_read(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "smoke", reads=False))
    assert headline_of(tmp_path / "smoke").startswith("Does not read yet: 20 %") and run.takes_off() is None
    page = write_report(tmp_path / "smoke").read_text()
    assert "it has not begun to read" in page


def test_the_page_stands_alone(run_folder: Path) -> None:
    page = write_report(run_folder).read_text()
    assert "<script" not in page and "<link" not in page and "@import" not in page and "url(" not in page
    assert not re.findall(r"https?://", page)
    assert re.findall(r"<img src=\"(.{22})", page) == ["data:image/png;base64,"] * 4
    assert "prefers-color-scheme: dark" in page


def test_the_page_names_neither_machine_nor_its_paths(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "secrethost")
    (run_folder / "encoder" / "overrides.txt").write_text(
        "data.root=/home/somebody/pages\nrun.name=on-secrethost\n"
    )
    page = write_report(run_folder).read_text()
    assert "somebody" not in page and "secrethost" not in page and str(run_folder) not in page
    assert "data.root=…/pages" in page and "directory: …/runs" in page


def test_every_figure_is_well_formed_and_speaks(run_folder: Path) -> None:
    page = write_report(run_folder).read_text()
    drawn = figures(page)
    assert len(drawn) == 2 + 4  # the curve in two widths; loss, glyph map, image gain, accuracy
    assert all(figure.get("role") == "img" and figure.get("aria-label") for figure in drawn)
    assert "3.9 bytes a token: right page 94%" in drawn[0].get("aria-label", "")
    for figure in drawn:
        box = [float(side) for side in figure.get("viewBox", "").split()]
        for polyline in figure.iter("polyline"):
            for point in polyline.get("points", "").split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= box[2] and 0 <= y <= box[3]


def test_curve_points_lie_where_their_figures_say(run_folder: Path) -> None:
    wide = figures(write_report(run_folder).read_text())[0]
    circles = [mark for mark in wide.iter("circle") if "right" in mark.get("class", "")]
    heights = [float(mark.get("cy", "nan")) for mark in circles]
    lines = [float(line.get("y1", "nan")) for line in wide.iter("line")]
    zero, full = lines[0], lines[4]
    assert [(zero - height) / (zero - full) for height in heights] == pytest.approx([0.943, 0.685], abs=1e-3)


def test_take_off_and_level_changes_are_marked(run_folder: Path) -> None:
    page = write_report(run_folder).read_text()
    assert page.count(">begins to look<") == 1
    assert page.count("curriculum level 1 begins here") == 2 * 4


def test_errors_are_marked_by_kind_and_escaped() -> None:
    assert marked("same", "same") == "same"
    assert marked("cat", "cot") == 'c<mark title="the page says “a”">o</mark>t'
    assert marked("cat", "ct") == "c<del>a</del>t"
    assert marked("cat", "ca t") == "ca<ins>␣</ins>t"
    assert marked("a<b", "a<c") == 'a&lt;<mark title="the page says “b”">c</mark>'
    assert marked('"', "x") == '<mark title="the page says “&quot;”">x</mark>'


def test_marks_restore_both_texts() -> None:
    generator = random.Random(7)
    for _ in range(100):
        reference, hypothesis = (
            "".join(generator.choices("abc", k=generator.randrange(1, 12))) for _ in range(2)
        )
        found = marked(reference, hypothesis)
        read = re.sub(r"<del>.*?</del>", "", found)
        assert re.sub(r"<[^>]+>", "", read) == hypothesis
        said = re.sub(r"<ins>.*?</ins>", "", found)
        said = re.sub(r'<mark title="the page says “(.*?)”">.*?</mark>', r"\1", said)
        assert re.sub(r"<[^>]+>", "", said) == reference


def test_a_text_that_is_all_wrong_is_not_marked_letter_by_letter(run_folder: Path) -> None:
    evaluation = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    before = write_report(run_folder).read_text().count("<mark")
    evaluation["samples"][1] |= {"precision": 0.3, "hypothesis": "<and> the and the"}
    (run_folder / "evaluation" / "metrics.json").write_text(json.dumps(evaluation))
    page = write_report(run_folder).read_text()
    assert (
        "Too far off to mark" in page and "&lt;and&gt; the and the" in page and page.count("<mark") < before
    )
    assert page.count("<details open>") == 1


def test_texts_of_pages_cannot_break_out_into_the_html(run_folder: Path) -> None:
    page = write_report(run_folder).read_text()
    assert "<i>out" not in page and "&lt;b&gt;" in page


def test_an_unfinished_run_is_shown_and_says_what_it_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "smoke"
    write_stage(folder / "encoder", 20, state="running", glyphs=True)
    page = write_report(folder).read_text()
    report = json.loads((folder / "report.json").read_text())
    assert report["curve"] == [] and report["image_gain"] is None and len(report["stages"]) == 1
    assert "This run is not finished" in page and "python -m train.evaluate" in page
    assert "“encoder” is not finished (state: running, step 20)" in page
    assert "How it learned" in page and "The compression curve" not in page


def test_a_run_that_has_hardly_begun_is_shown_too(tmp_path: Path) -> None:
    folder = tmp_path / "smoke"
    folder.mkdir()
    (folder / "recipe.json").write_text('{"name": "smoke", "steps": [{"name": "build", "state": "running"}]}')
    assert "No stage has begun" in write_report(folder).read_text()
    write_stage(folder / "encoder", 1)
    (folder / "encoder" / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 5.0, "pages": 16, "seconds": 0.1}\n{"st'
    )
    assert "How it learned" in write_report(folder).read_text()


def test_a_single_stage_folder_is_a_run(tmp_path: Path) -> None:
    write_stage(tmp_path / "mine", 30)
    assert [stage.name for stage in read_run(tmp_path / "mine").stages] == ["mine"]
    assert write_report(tmp_path / "mine").exists()


def test_a_folder_without_a_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        write_report(tmp_path)


def test_a_lost_page_picture_leaves_the_text(run_folder: Path) -> None:
    (run_folder / "evaluation" / "samples" / "0.png").unlink()
    page = write_report(run_folder).read_text()
    assert "picture not found" in page and page.count("data:image/png") == 3


def test_ticks_are_round_and_inside() -> None:
    assert round_ticks(0, 4.7, 4) == [0, 2, 4]
    assert round_ticks(0, 0.9, 4) == [0, 0.25, 0.5, 0.75]
    assert round_ticks(3, 3, 4) == [3]
    assert [short(value) for value in (0, 950, 8400, 32200, 1.31e6)] == ["0", "950", "8.4k", "32k", "1.3M"]


def test_labels_are_moved_apart_but_stay_in_order() -> None:
    moved = spread([10.0, 11.0, 50.0], 15, 0, 100)
    assert moved == [10.0, 25.0, 50.0]
    moved = spread([95.0, 99.0, 98.0], 15, 0, 100)
    assert moved[0] < moved[2] < moved[1] <= 100 and moved[1] - moved[2] >= 15


def test_a_scale_maps_its_ends_and_survives_a_single_value() -> None:
    scale = Scale(2, 8, 0, 100, math.log2)
    assert (scale(2), scale(4), scale(8)) == (0, 50, 100)
    assert Scale(5, 5, 0, 100)(5) == 50
