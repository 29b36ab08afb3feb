"""Figures and report of an evaluation show its rows, each where it belongs, and say what they are made of."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from train.report.evaluation import render_evaluation
from train.report.figures import curve_panel, forgetting_panels, write_figures
from train.report.plot import Dot, Line, Panel, panel_figure, style_of, tick_label
from train.report.png import write_png

MODES = {"large": 400, "small": 100, "tiny": 64}


def row(tokens: int, vision: int, precision: float, pages: int = 28, **more: Any) -> dict[str, Any]:
    figures = {
        "precision": precision, "word_precision": precision - 0.1, "character_error_rate": 1 - precision,
        "word_error_rate": 1.1, "repetition_rate": 0.04, "precision_shuffled": 0.2, "precision_blank": 0.02,
    }  # fmt: skip
    intervals = {f"{name}_interval": [value - 0.03, value + 0.02] for name, value in figures.items()}
    return {
        "pages": pages, "vision_tokens": vision, "text_tokens": tokens, "compression": tokens / vision,
        "bytes_per_vision_token": 4.4 * tokens / vision, **figures, **intervals, **more,
    }  # fmt: skip


def content(modes: dict[str, int] = MODES, **more: Any) -> dict[str, Any]:
    """metrics.json of a benchmark read in several modes."""
    precisions = {"large": 0.97, "small": 0.91, "tiny": 0.84}
    every = [
        row(700, vision, precisions[mode], 70, mode=mode, language=language)
        for language in ("en", "<zh>")
        for mode, vision in modes.items()
    ]
    return {
        "name": "mine", "step": 1200, "seconds": 12.0, "image_gain": 4.2, "main_mode": "large", "encoder": "optical",
        "tokenizer": {"name": "a vocabulary", "reference": True, "digest": "d"},
        "data": {"format": "fox", "sources": ["fox"], "prompts": ["<b>read</b>"], "pages": 70, "digest": "p"},
        "decoding": {"no_repeat": "none", "cache": "auto", "max_new_tokens": None},
        "bin_edges": [600, 700, 800], "pages_outside_bins": 3,
        "curve": [row(700, vision, precisions[mode], 70, mode=mode, source="fox") for mode, vision in modes.items()],
        "bins": [
            row(low + 50, vision, precisions[mode] - (low - 600) / 2000, mode=mode, low=low, high=low + 100)
            for mode, vision in modes.items()
            for low in (600, 700)
        ],
        "modes": [row(700, vision, precisions[mode], 70, mode=mode) for mode, vision in modes.items()],
        "random_text": [], "languages": every, "scripts": [], "kinds": [], "overall": [], "samples": [], "sample_choice": "",
        "left_out": {}, "parameters": {"total": 1000}, "device": "cpu", "notes": ["Text is text."], **more,
    }  # fmt: skip


def drawn(figure: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg .*?</svg>", figure, re.DOTALL)]


def test_points_of_the_curve_are_the_rows_of_the_bins() -> None:
    panel = curve_panel(content())
    assert [line.label for line in panel.lines] == [
        "right page, large", "right page, small", "right page, tiny", "another page, large", "blank page, large",
    ]  # fmt: skip
    tiny = panel.lines[2]
    assert [dot.x for dot in tiny.dots] == [650 / 64, 750 / 64]
    assert [dot.y for dot in tiny.dots] == pytest.approx([0.84, 0.79])
    assert tiny.dots[0].bounds == pytest.approx((0.81, 0.86)) and tiny.dots[0].pages == 28


def test_random_text_lies_where_its_own_tokens_put_it() -> None:
    lots = [row(900, 400, 0.6, 8, mode="large"), row(950, 64, 0.3, 8, mode="tiny")]
    panel = curve_panel(content(random_text=lots))
    [line] = [line for line in panel.lines if line.kind == "random"]
    assert line.label == "random text, large" and [(dot.x, dot.y, dot.pages) for dot in line.dots] == [
        (2.25, 0.6, 8)
    ]


def test_several_runs_are_lines_under_their_names() -> None:
    single = {"small": 100}
    other = content(single) | {"name": "pooled"}
    panel = curve_panel(content(single, main_mode="small"), [other, content() | {"name": "cut"}])
    assert [line.label for line in panel.measured] == [
        "mine",
        "pooled",
        "cut, large",
        "cut, small",
        "cut, tiny",
    ]
    assert len({style_of(panel, line) for line in panel.lines}) == len(panel.lines)


def test_the_forgetting_curve_is_drawn_over_tokens_and_over_compression() -> None:
    first, second = forgetting_panels(content())
    assert [dot.x for dot in first.lines[0].dots] == [64, 100, 400]
    assert [dot.x for dot in second.lines[0].dots] == [700 / 400, 7.0, 700 / 64]
    assert [dot.y for dot in first.lines[0].dots] == [0.84, 0.91, 0.97]


def test_marks_lie_where_their_figures_say_and_inside() -> None:
    panel = curve_panel(content())
    for figure in drawn(panel_figure(panel)):
        width, height = [float(side) for side in figure.get("viewBox", "").split()][2:]
        circles = list(figure.iter("circle"))
        heights = [float(mark.get("cy", "nan")) for mark in circles]
        grid = [float(line.get("y1", "nan")) for line in figure.iter("line")][:5]
        shares = [(grid[0] - place) / (grid[0] - grid[4]) for place in heights]
        assert shares == pytest.approx([0.97, 0.92], abs=1e-2)
        assert all(0 <= float(mark.get("cx", "nan")) <= width for mark in circles) and max(heights) < height
        assert "right page, tiny: 84% at 10.2" in figure.get("aria-label", "")


def test_the_png_shows_what_is_in_the_panel(tmp_path: Path) -> None:
    def ink(line: Line) -> np.ndarray:
        write_png(tmp_path / "x.png", "title", "note", [Panel("t", "x", "x", (line,))])
        return np.asarray(Image.open(tmp_path / "x.png").convert("RGB")).astype(int)

    high = Line("a", (Dot(1.0, 0.9, None, 5), Dot(2.0, 0.9, None, 5)))
    low = Line("a", (Dot(1.0, 0.1, None, 5), Dot(2.0, 0.1, None, 5)))
    blue = [np.flatnonzero((ink(line) == (0, 114, 178)).all(axis=2).any(axis=1)) for line in (high, low)]
    assert blue[0].min() < blue[1].min() - 300  # the line at 90 % is far above the one at 10 %
    assert (ink(high) == ink(high)).all()


def test_figures_of_one_mode_leave_no_old_forgetting_curve(tmp_path: Path) -> None:
    assert set(write_figures(tmp_path, content(), [])) == {"curve", "forgetting"}
    assert (
        Image.open(tmp_path / "curve.png").format == Image.open(tmp_path / "forgetting.png").format == "PNG"
    )
    assert set(write_figures(tmp_path, content({"large": 400}), [])) == {"curve"}
    assert not (tmp_path / "forgetting.png").exists()


def page(tmp_path: Path, **more: Any) -> str:
    shown = content(**more)
    return render_evaluation(shown, [], tmp_path, write_figures(tmp_path, shown, []))


def test_the_report_stands_alone_and_escapes_what_is_not_ours(tmp_path: Path) -> None:
    text = page(tmp_path, left_out={"fox/<i>": "/home/somebody/x.png: broken"})
    assert "<script" not in text and "<link" not in text and not re.findall(r"https?://", text)
    assert "&lt;zh&gt;" in text and "<zh>" not in text and "<b>read" not in text and "<i>:" not in text
    assert "1 pages could not be read" in text and "somebody" not in text
    assert "prefers-color-scheme: dark" in text


def test_every_figure_of_the_tables_has_its_interval_and_its_pages(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "84.0 (81.0–86.0)" in text  # precision of a bin
    assert "0.160 (0.130–0.180)" in text  # its character error rate
    assert "600–699" in text and "10.2 ×" in text
    assert "97.0 % <small>95 %: 94–99, 70 pages</small>" in text  # by language, in the main mode
    assert "Text is text." in text and "The forgetting curve" in text


def test_what_a_benchmark_does_not_have_is_not_shown(tmp_path: Path) -> None:
    text = page(tmp_path, image_gain=None)
    assert "image gain, nats" not in text and "random text" not in text.split("Reading this honestly")[0]
    assert "OmniDocBench" not in text and "in both readings" not in text
    overall = [{"mode": "large", "language": "all", "pages": 9, "overall_without_cdm": 71.5,
                "overall_without_cdm_interval": [70.0, 73.0], "overall_edit": None}]  # fmt: skip
    assert "71.5 (70.0–73.0)" in page(tmp_path, overall=overall)


def test_quantities_are_said_as_short_as_they_can_be() -> None:
    assert [tick_label(value) for value in (0.854, 7.0, 7.24, 64, 1280)] == ["0.85", "7", "7.2", "64", "1280"]
