"""Parts that the report of a run and that of an evaluation have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.report.figures import Content, forgetting_panels
from train.report.html import section, table
from train.report.plot import panel_figure
from train.report.reading import LEGEND, reading_cards
from train.report.tables import FLOORS, METRICS, PLAIN, SIZES, cells_of


def forgetting_section(content: Content) -> str:
    """The same pages in several modes; nothing where there is one."""
    if len(content.get("modes", ())) < 2:
        return ""
    panels = "".join(
        f'<figure class="chart">{panel_figure(panel)}</figure>' for panel in forgetting_panels(content)
    )
    titles, rows = cells_of(content["modes"], (("mode", "mode", PLAIN), *SIZES, *METRICS, *FLOORS))
    return section(
        "The forgetting curve",
        f"The same {content['modes'][0]['pages']} pages, shown with ever fewer vision tokens, as memories that fade: how much "
        "of them can still be read.",
        panels + table(titles, rows),
    )


def samples_section(content: Mapping[str, Any], folder: Path) -> str:
    """Pages beside what was read from them; `folder` is what their paths are relative to."""
    samples = content.get("samples", [])
    if not samples:
        return ""
    prose = [sample for sample in samples if not sample.get("random")]
    random = [
        {**sample, "source": "", "choice": f"{sample['choice']} · {sample['source']}"}
        for sample in samples
        if sample.get("random")
    ]
    titles = {
        row["source"]: f"{row['source']}: {row['bytes_per_vision_token']:.1f} bytes per vision token"
        for row in reversed(content["curve"])
    }
    body = LEGEND + reading_cards(prose, folder, titles)
    if random:
        body += reading_cards(
            random, folder, {"": "Random text: no sentence to lean on, so only reading helps"}
        )
    return section("Pages, and what was read from them", content.get("sample_choice", ""), body)
