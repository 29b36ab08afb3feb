"""Which documents are held out: by family, so that nothing of a document is on both sides."""

import hashlib
from collections.abc import Sequence

from data_pipeline.errors import DataError
from data_pipeline.sources.document import Document


def on_side(
    documents: Sequence[Document], side: str, named: Sequence[str], fraction: float
) -> list[Document]:
    """Documents on `side` ("train" or "held_out").

    Held out are the families in `named`, else the `fraction` of all families whose names hash lowest: at least one
    when the fraction is not 0, never all. Raises DataError when `named` has a family that does not exist.
    """
    families = sorted({document.family for document in documents})
    unknown = sorted(set(named) - set(families))
    if unknown:
        some = ", ".join(families[:8]) + (", ..." if len(families) > 8 else "")
        raise DataError(f"corpus.held_out= names {', '.join(unknown)}, but the document families are: {some}")
    held_out = set(named)
    if not held_out and fraction > 0:
        by_hash = sorted(families, key=lambda family: hashlib.sha256(family.encode()).digest())
        held_out = set(by_hash[: min(max(1, round(fraction * len(families))), len(families) - 1)])
    return [document for document in documents if (document.family in held_out) == (side == "held_out")]
