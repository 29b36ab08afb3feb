"""Which metrics the code can log, found in its source: names of metrics stand there as text, whole or as a template.

`"tokens_per_second"` is a name, `f"expert_load/{layer}"` a template of names: `expert_load/*`. What a template begins with must tell
something, or it would cover all there are.
"""

import ast
import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READ = ("train", "parallel")
LEFT_OUT = (Path("train/monitor/catalogue.py"), Path("train/dashboard"), Path("train/report"))
SHORTEST = 3  # characters before the first `*` of a template


@cache
def names_in_code() -> frozenset[str]:
    """Every text constant in the code that logs, and every template, with `*` for what is put in."""
    found: set[str] = set()
    for package in READ:
        for path in (ROOT / package).rglob("*.py"):
            if not any(path.relative_to(ROOT).is_relative_to(own) for own in LEFT_OUT):
                found |= names_in(path.read_text(encoding="utf-8"))
    return frozenset(found)


def names_in(source: str) -> set[str]:
    """The same of one file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values]
            template = "".join(parts)
            if template.find("*") >= SHORTEST and " " not in template:
                found.add(template)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {" ", "*"} & {*node.value}:
            found.add(node.value)
    return found


def is_logged(name: str, known: frozenset[str]) -> bool:
    """Whether the code can log a metric of the catalogue; `NAME/*` is also covered by NAME, to which the rest is added."""
    stem = name.removesuffix("/*")
    return stem in known or any("*" in template and fnmatch.fnmatchcase(name, template) for template in known)
