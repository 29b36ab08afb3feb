"""Jane Austen's six novels, which come with the project: English prose for the reading figures."""

import io
import lzma
import tarfile
from functools import cache
from pathlib import Path

from data_pipeline.sources.document import Document, Provenance, paragraphs

ARCHIVE = Path(__file__).parent.parent / "corpora" / "austen.tar.xz"
PROVENANCE = Provenance("janeaustenr", "1.0.0", "public domain")
_EDITORS_NOTE = "A NOTE ON THE TEXT"  # not Austen's, at the end of Northanger Abbey
_SENTENCE_ENDS = tuple(".!?:;,\"'-")


@cache  # both sides of a split ask for them
def novels() -> tuple[Document, ...]:
    """Six documents, one a novel; the family is the novel's file name without its ending ("persuasion")."""
    documents = []
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(ARCHIVE.read_bytes()))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                continue
            family = Path(member.name).stem
            novel = file.read().decode("utf-8").partition(_EDITORS_NOTE)[0]
            prose = [part for part in paragraphs(novel) if not _is_heading(part)]
            documents.append(
                Document("\n".join(prose), "en", "Latn", f"austen/{family}", PROVENANCE.license, family)
            )
    return tuple(documents)


def _is_heading(paragraph: str) -> bool:
    """Titles, "CHAPTER IV", "By Jane Austen", "THE END": short, and not ended as a sentence is."""
    return len(paragraph) < 80 and (
        not paragraph.endswith(_SENTENCE_ENDS) or paragraph.lower().startswith("chapter ")
    )
