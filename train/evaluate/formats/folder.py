"""A plain folder: pictures, and beside each the text that it shows in a file of the same name.

    pages/letter.png      pages/letter.txt
    pages/de/report.jpg   pages/de/report.md

Folders inside are read too. `.md` is markdown, `.txt` plain text; the page's kind says which.
"""

from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.page_file import FORMATS
from train.evaluate.formats.page import Page, PageFolder

_TEXTS = {".md": "markdown", ".txt": "text"}
_PICTURES = tuple(f".{extension}" for extension in FORMATS)


def read_folder(folder: Path) -> PageFolder:
    """Pages in the order of their names. Pictures without a text, texts without a picture and texts that are not
    UTF-8 are left out. DataError for a folder without any pair.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: give one of pictures with their texts (page.png and page.txt)"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = {path.with_suffix(""): path for path in files if path.suffix.lower() in _PICTURES}
    texts = {path.with_suffix(""): path for path in files if path.suffix.lower() in _TEXTS}
    found = PageFolder()
    for stem in sorted(pictures.keys() | texts.keys()):
        key = stem.relative_to(folder).as_posix()
        if stem not in texts:
            found.left_out[key] = f"no {stem.name}.txt or {stem.name}.md says what it shows"
        elif stem not in pictures:
            found.left_out[key] = f"no picture ({', '.join(_PICTURES)}) beside {texts[stem].name}"
        else:
            _add(found, key, pictures[stem], texts[stem])
    if not found.pages:
        raise DataError(
            f"{folder} holds no picture with its text beside it (page.png and page.txt or page.md). "
            + (found.told() or f"It holds {len(files)} other files.")
        )
    return found


def _add(found: PageFolder, key: str, picture: Path, text: Path) -> None:
    try:
        reference = text.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        found.left_out[key] = f"{text.name} is no readable UTF-8 text: {error}"
        return
    found.add(Page(key, picture, reference.strip("\n"), kind=_TEXTS[text.suffix.lower()]))
