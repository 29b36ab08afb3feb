"""Two pages in OmniDocBench's format, made up here, and what four models could have written of them."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

STORMS = (
    "The ferry left the harbour at dawn, and nobody on deck had slept. A storm had come in from the west during the "
    "night; it tore two shutters from the customs house and carried them as far as the lighthouse."
)
CREW = "Of the crew of forty, only nine had sailed this route before, and the captain was not one of them."
FIRST_HALF = "The pilot had promised to wait for them at the second buoy, where the channel narrows to"
SECOND_HALF = " eleven fathoms, but when they reached it the buoy was gone and so was he."
MASS = r"The energy is $E_{0}=m c^{2}$ when the ship lies still."
FORMULA = "$$\n\\frac{d x}{d t}=v_{0}+a t\n$$"
TABLE = (
    '<table>\n<thead>\n<tr>\n <th>Port</th>\n <th colspan="2">Depth in m</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n '
    "<td>North</td>\n <td>11.5</td>\n <td>12.0</td>\n</tr>\n<tr>\n <td>South</td>\n <td>7.25</td>\n <td>8.5</td>\n"
    "</tr>\n</tbody>\n</table>"
)
POEM = "海上生明月，天涯共此时。情人怨遥夜，竟夕起相思。"
NOTE = "灭烛怜光满，披衣觉露滋。不堪盈手赠，还寝梦佳期。"


def block(number: int, category: str, order: int | None, **content: str) -> dict[str, Any]:
    """One entry of layout_dets."""
    corner = 10.0 * number
    poly = [corner, corner, 90.0, corner, 90.0, corner + 9.0, corner, corner + 9.0]
    return {
        "category_type": category, "poly": poly, "ignore": False, "order": order, "anno_id": number,
        "attribute": {}, "line_with_spans": [],
    } | content  # fmt: skip


def annotations() -> list[dict[str, Any]]:
    """The JSON of two pages: an English one with everything, a Chinese one of two paragraphs."""
    harbour = [
        block(7, "header", None, text="Chapter 3"),
        block(0, "title", 1, text="The second buoy"),
        block(1, "text_block", 2, text=STORMS),
        block(2, "text_block", 3, text=CREW),
        block(3, "text_block", 4, text=FIRST_HALF),
        block(8, "figure", 5),
        block(9, "figure_caption", 6, text="Figure 1: the harbour before the storm"),
        block(4, "text_block", 7, text=SECOND_HALF),
        block(5, "text_block", 8, text=MASS),
        block(6, "equation_isolated", 9, latex=FORMULA),
        block(10, "table", 10, html=TABLE, latex="\\begin{tabular}{lll}\\end{tabular}"),
    ]
    cut = {"source_anno_id": 3, "target_anno_id": 4, "relation_type": "truncated"}
    caption = {"source_anno_id": 8, "target_anno_id": 9, "relation_type": "parent_son"}
    poem = [block(0, "text_block", 1, text=POEM), block(1, "text_block", 2, text=NOTE)]
    return [
        page("harbour.pdf_3.png", harbour, [cut, caption], language="english", data_source="book"),
        page("poem_1.jpg", poem, [], language="simplified_chinese", data_source="note"),
    ]


def page(
    name: str, blocks: list[dict[str, Any]], relations: list[dict[str, Any]], **attributes: str
) -> dict[str, Any]:
    """One page of the JSON."""
    info = {"page_no": 0, "height": 120, "width": 100, "image_path": name, "page_attribute": attributes}
    return {"layout_dets": blocks, "extra": {"relation": relations}, "page_info": info}


def benchmark(folder: Path) -> Path:
    """`folder` as the benchmark is downloaded."""
    (folder / "images").mkdir(parents=True)
    (folder / "OmniDocBench.json").write_text(json.dumps(annotations(), ensure_ascii=False), encoding="utf-8")
    for name in ("harbour.pdf_3.png", "poem_1.jpg"):
        Image.new("RGB", (100, 120), "white").save(folder / "images" / name)
    return folder


_CARELESS_TABLE = (
    "<table><tr><td>Port</td><td>Depth in m</td></tr><tr><td>North</td><td>11.5</td><td>12.0</td></tr>"
    "<tr><td>Soth</td><td>7.25</td><td>8.5</td></tr></table>"
)
WRITTEN: dict[str, dict[str, str]] = {
    "exact": {
        "harbour.pdf_3": "\n\n".join(
            ["# The second buoy", STORMS, CREW, FIRST_HALF + SECOND_HALF, MASS, FORMULA, TABLE]
        ),
        "poem_1": f"{POEM}\n\n{NOTE}",
    },
    "careless": {
        # headers and captions read too, one paragraph cut in two, another wrong, a formula and a cell misread
        "harbour.pdf_3": "\n\n".join(
            [
                "Chapter 3", "## The second bouy", STORMS[:113], STORMS[113:], "Figure 1: the harbour before the storm",
                FIRST_HALF + SECOND_HALF, CREW.replace("nine", "none").replace("route", "rout"),
                r"The energy is \(E_0 = mc^2\) when the ship lies stil.", r"\[ \frac{dx}{dt} = v_0 + at^2 \]",
                _CARELESS_TABLE,
            ]
        ),
        "poem_1": f"{NOTE}\n\n{POEM.replace('遥', '摇')}",
    },
    "merging": {
        # two paragraphs as one, the table as pipes, the formula left out, one paragraph twice
        "harbour.pdf_3": "\n\n".join(
            [
                "The second buoy", f"{STORMS} {CREW}", FIRST_HALF + SECOND_HALF, FIRST_HALF + SECOND_HALF, MASS,
                "| Port | Depth in m | |\n|---|---|---|\n| North | 11.5 | 12.0 |\n| South | 7.25 | 8.5 |\n",
            ]
        ),
        "poem_1": f"{POEM}{NOTE}",
    },
    "nothing": {"harbour.pdf_3": "", "poem_1": "I cannot read this page."},
}  # fmt: skip
