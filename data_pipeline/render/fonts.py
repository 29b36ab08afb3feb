"""The fonts of a build: a fixed set of files, what each covers, and their checksums.

Nothing of the host's font configuration is used: a page depends on these files alone. The default is the DejaVu that
the package matplotlib carries (pinned by pip); more come from the folders in `corpus.page.font_dirs`, such as
/usr/share/fonts/truetype/noto (Debian: `apt-get install fonts-noto-core`). Only upright faces of regular weight are
taken. Coverage is the cmap of each file, read by fontTools.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from data_pipeline.errors import DataError

_DEJAVU = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")
_ENDINGS = (".ttf", ".otf", ".ttc")


@dataclass(frozen=True)
class FontFile:
    """One face: its family name as Pango knows it, where it lies, which face of a collection, and its code points."""

    family: str
    path: Path
    index: int
    coverage: frozenset[int]


class FontSet:
    """The faces a build may use, by family name."""

    def __init__(self, faces: Iterable[FontFile]) -> None:
        self.faces = {face.family: face for face in faces}

    @staticmethod
    def load(font_dirs: Sequence[str]) -> "FontSet":
        """DejaVu and every regular upright face below `font_dirs`; DataError for a folder that is not there."""
        paths = [_dejavu_folder() / name for name in _DEJAVU]
        for folder in font_dirs:
            if not Path(folder).is_dir():
                raise DataError(
                    f"corpus.page.font_dirs={folder}: there is no such folder. For Noto on Debian or Ubuntu: "
                    "apt-get install fonts-noto-core; elsewhere name a folder with .ttf files"
                )
            paths += sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in _ENDINGS)
        faces: dict[str, FontFile] = {}
        for path in paths:
            for face in _regular_faces(path):
                faces.setdefault(face.family, face)
        return FontSet(faces.values())

    @cached_property
    def sha256(self) -> dict[str, str]:
        """File name → checksum, of every file of the set."""
        paths = sorted({face.path for face in self.faces.values()})
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    @cached_property
    def _everything(self) -> frozenset[int]:
        return frozenset().union(*(face.coverage for face in self.faces.values()))

    def require(self, families: Sequence[str]) -> None:
        """Raise DataError when a family is not in the set."""
        for family in families:
            if family not in self.faces:
                raise DataError(
                    f"corpus.page.font={family}: no such font here; there are {', '.join(sorted(self.faces)[:12])}. "
                    "Name the folder that holds it in corpus.page.font_dirs=[...]"
                )

    def only(self, families: Sequence[str]) -> "FontSet":
        """The faces of these families alone, in this order."""
        return FontSet(self.faces[family] for family in families)

    def families_for(self, text: str) -> list[str]:
        """Choices of font for `text`: each a family, or "A, B" when it takes several; [] when some character has none."""
        needed = visible_code_points(text)
        pool = list(self.faces.values())
        whole = [face.family for face in pool if needed <= face.coverage]
        if whole:
            return whole
        chosen: list[str] = []
        while needed:
            best = max(pool, key=lambda face: len(needed & face.coverage))
            if not needed & best.coverage:
                return []
            chosen.append(best.family)
            needed = needed - best.coverage
        return [", ".join(chosen)]

    def missing(self, text: str) -> tuple[int, ...]:
        """Code points of `text` that no font of the set has, ascending."""
        return tuple(sorted(visible_code_points(text) - self._everything))


def visible_code_points(text: str) -> frozenset[int]:
    """Code points of `text` that must have a glyph: not whitespace, controls or format characters."""
    return frozenset(
        ord(char)
        for char in set(text)
        if not char.isspace() and unicodedata.category(char) not in ("Cf", "Cc")
    )


def _dejavu_folder() -> Path:
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise DataError(
            "the default fonts come with matplotlib, which is not installed: pip install matplotlib"
        )
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


def _regular_faces(path: Path) -> list[FontFile]:
    """The regular upright faces in one font file; DataError when it is not a font."""
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    try:
        fonts = (
            list(TTCollection(path, lazy=True))
            if path.suffix.lower() == ".ttc"
            else [TTFont(path, lazy=True)]
        )
        faces = []
        for index, font in enumerate(fonts):
            name, style = font["name"], font["OS/2"]
            family = str(name.getName(1, 3, 1) or name.getDebugName(1) or "")
            sub_family = str(name.getDebugName(2) or "Regular")
            upright = sub_family in ("Regular", "Book", "Roman") and font["post"].italicAngle == 0
            regular = style.usWeightClass == 400 and style.usWidthClass == 5 and upright
            cmap = font.getBestCmap()
            if regular and family and cmap:
                faces.append(FontFile(family, path, index, frozenset(cmap)))
        return faces
    except (TTLibError, OSError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read as a font ({error}); take it out of the corpus.page.font_dirs folder"
        ) from None
