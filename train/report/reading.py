"""Pages beside what was read from them, with every wrong character marked, by shape as well as by colour."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

VISIBLE = {" ": "␣", "\n": "⏎\n"}  # how whitespace is shown where it is the error itself
MARKED_FROM = 0.5  # precision below which the shortest edit script is a coincidence, not an account of errors
LEGEND = (
    '<p class="legend"><span><mark>x</mark> read wrongly (hover: what the page says)</span>'
    "<span><ins>x</ins> read, but not on the page</span><span><del>x</del> on the page, not read</span></p>"
)


def marked(reference: str, hypothesis: str) -> str:
    """The hypothesis as HTML, its shortest way to the reference marked: <mark> wrong, <ins> extra, <del> left
    out.
    """
    pieces = []
    for step in Levenshtein.opcodes(reference, hypothesis):
        expected = reference[step.src_start : step.src_end]
        read = hypothesis[step.dest_start : step.dest_end]
        if step.tag == "equal":
            pieces.append(escape(read))
        elif step.tag == "replace":
            pieces.append(
                f'<mark title="the page says “{escape(_visible(expected), quote=True)}”">{escape(_visible(read))}</mark>'
            )
        elif step.tag == "insert":
            pieces.append(f"<ins>{escape(_visible(read))}</ins>")
        else:
            pieces.append(f"<del>{escape(_visible(expected))}</del>")
    return "".join(pieces)


def reading_cards(samples: Sequence[Mapping[str, Any]], folder: Path, titles: Mapping[str, str]) -> str:
    """A row of cards for each source; `folder` is what the pages' paths are relative to, `titles` name the
    sources.
    """
    rows = []
    for source in dict.fromkeys(str(sample.get("source", "")) for sample in samples):
        cards = "".join(
            _card(sample, folder) for sample in samples if str(sample.get("source", "")) == source
        )
        rows.append(f'<h3>{escape(titles.get(source, source))}</h3><div class="cards">{cards}</div>')
    return "".join(rows)


def data_uri(folder: Path, name: str) -> str | None:
    """A picture in `folder` as part of the page itself; None where the file is gone, or lies elsewhere: a report is shown around,
    and may be of a run that a stranger made.
    """
    kinds = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
    path = folder / name
    if path.suffix.lower() not in kinds or not path.is_file():
        return None
    if not path.resolve().is_relative_to(folder.resolve()):
        return None
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:image/{kinds[path.suffix.lower()]};base64,{encoded}"


def _card(sample: Mapping[str, Any], folder: Path) -> str:
    source = data_uri(folder, str(sample.get("page", "")))
    reference, hypothesis = str(sample["reference"]), str(sample["hypothesis"])
    alternative = escape("A page picture of: " + reference, quote=True)
    picture = (
        f'<img src="{source}" alt="{alternative}">' if source else '<div class="lost">picture not found</div>'
    )
    score = float(sample["precision"])
    marks = score >= MARKED_FROM
    read = marked(reference, hypothesis) if marks else escape(hypothesis)
    read = read if hypothesis else '<span class="none">(nothing was read)</span>'
    note = (
        ""
        if marks
        else '<p class="none">Too far off to mark single letters: what agrees may do so by chance.</p>'
    )
    return (
        f'<article class="card"><figure>{picture}</figure>'
        f'<p class="tag"><b>{escape(str(sample.get("choice", "")))}</b> <span>{100 * score:.0f} %</span></p>'
        f'<p class="read{"" if marks else " off"}">{read}</p>{note}'
        f"<details{'' if marks else ' open'}><summary>what the page says</summary>"
        f'<p class="read said">{escape(reference)}</p></details></article>'
    )


def _visible(text: str) -> str:
    return "".join(VISIBLE.get(character, character) for character in text)
