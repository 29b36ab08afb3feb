"""Rules that settings must keep. Each yields a sentence for what breaks it, and nothing where nothing is
wrong.

A sentence begins with the override as it stands and says which one would do.
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path


def positive(section: str, values: object, names: str) -> Iterator[str]:
    """Each of the space-separated `names` of `values` is above 0."""
    for name in names.split():
        value = getattr(values, name)
        if not value > 0:
            yield f"{section}.{name}={value}: must be above 0."


def at_least(name: str, value: float, least: float, why: str = "") -> Iterator[str]:
    """`value` is `least` or more; nan is not."""
    if not value >= least:
        yield f"{name}={value}: must be {least} or more{f' ({why})' if why else ''}."


def fraction(name: str, value: float) -> Iterator[str]:
    """`value` is from 0 to 1."""
    if not 0 <= value <= 1:
        yield f"{name}={value}: must be a fraction, from 0 to 1."


def divides(name: str, part: int, whole_name: str, whole: int) -> Iterator[str]:
    """`part` divides `whole`; the sentence names the nearest part that does."""
    if part > 0 and whole > 0 and whole % part:
        divisors = [number for number in range(1, whole + 1) if whole % number == 0]
        nearest = min(divisors, key=lambda number: (abs(number - part), number))
        yield f"{name}={part}: does not divide {whole_name}={whole}. The nearest that does: {name}={nearest}."


def image_size(name: str, size: int, patch: int) -> Iterator[str]:
    """A vision token covers 4 x 4 patches, and a page is whole vision tokens."""
    unit = 4 * patch
    if size < 1 or (unit > 0 and size % unit):
        nearest = max(unit, round(size / unit) * unit) if unit > 0 else 128
        yield f"{name}={size}: not a multiple of {unit} (4 x model.encoder.patch). The nearest: {name}={nearest}."


def one_of(name: str, value: str, known: Sequence[str]) -> Iterator[str]:
    """`value` is one of `known`."""
    if value not in known:
        yield f"{name}={value}: choose one of {', '.join(known)}.{meant(value, known, name + '=')}"


def unused_folder(name: str, path: Path) -> Iterator[str]:
    """`path` is to be written whole: nothing is there, or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        yield f"{name}={path} exists and is not empty: choose another folder"


def meant(value: str, known: Sequence[str], before: str = "") -> str:
    """` Did you mean …?`, or nothing where nothing is near."""
    guess = difflib.get_close_matches(value, known, 1)
    return f" Did you mean {before}{guess[0]}?" if guess else ""
