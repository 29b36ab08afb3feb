"""What the pages point at is there: links, pictures, sections, and files of this repository that they name."""

import re
from pathlib import Path

import pytest

from tests.docs.commands import LIVING, PAGES, ROOT, blocks

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FOLDERS = ("train", "parallel", "data_pipeline", "conf", "tests", "docs", "slurm", "benchmarks", ".ci")
FILE = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*{{}},-]*\w[\w*/]*")
LANGUAGES = {"sh", "text", "yaml", "python", "json", "html", ""}  # of blocks; commands stand in ```sh


def prose(page: Path) -> str:
    """A page without its blocks."""
    lines = page.read_text().splitlines()
    for start, _, block in blocks(page.read_text()):
        lines[start - 2 : start + len(block)] = [""] * (len(block) + 2)
    return "\n".join(lines)


def sections(page: Path) -> set[str]:
    """The names by which GitHub links the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    for target in LINK.findall(prose(page)):
        path, _, section = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        other = page.parent / path if path else page
        if not other.exists() or (section and other.suffix == ".md" and section not in sections(other)):
            missing.append(target)
    assert not missing, f"{page.name} links to what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    found = {name for span in re.findall(r"`([^`]+)`", prose(page)) for name in FILE.findall(span)}
    missing = sorted(name for name in found if "{" not in name and not list(ROOT.glob(name.rstrip("/"))))
    assert not missing, f"{page.name} names what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_blocks_that_are_executed(page: Path) -> None:
    other = {language for _, language, _ in blocks(page.read_text())} - LANGUAGES
    assert not other, f"{page.name}: write ```sh before commands and ```text before what is printed, not ```{', '.join(other)}"
    for start, language, lines in blocks(page.read_text()):
        typed = [line for line in lines if re.match(r"\s*(\$ |python -m |torchrun |sbatch |make )", line)]
        assert language == "sh" or not typed, f"{page.name}:{start}: write ```sh before {typed[0]}, so that it is executed"
