"""Where text comes from: one file a kind of document, each a function that gives `Document`s.

`load` is the only entry: the documents of one side (train or held_out) of a corpus, in a fixed order.
"""

from collections.abc import Sequence

from data_pipeline.config import CorpusConfig
from data_pipeline.sources import austen, folder, udhr
from data_pipeline.sources.document import Document, Provenance
from data_pipeline.sources.split import on_side

__all__ = ["Document", "Provenance", "load", "provenance"]


def load(corpus: CorpusConfig, side: str) -> list[Document]:
    """Documents of `side` ("train" or "held_out") in a fixed order; raises DataError for an unusable source."""
    documents: Sequence[Document]
    if corpus.source == "austen":
        documents = austen.novels()
    elif corpus.source == "udhr":
        documents = udhr.declarations()
    else:
        documents = folder.files(corpus.path, corpus.language, corpus.license)
    return on_side(documents, side, corpus.held_out, corpus.held_out_fraction)


def provenance(corpus: CorpusConfig) -> Provenance:
    """The package or folder the corpus's texts come from."""
    if corpus.source == "folder":
        return folder.provenance(corpus.path, corpus.license)
    return austen.PROVENANCE if corpus.source == "austen" else udhr.provenance()
