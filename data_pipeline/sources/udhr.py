"""The Universal Declaration of Human Rights in 750 languages and 140 scripts, from the package gflanguages.

Samples, not the whole text: 60 to 2000 characters a language, for half of them the first article alone. They are for
the coverage of scripts, not for fluent prose.

The Declaration is one document in many languages, so a split needs care. Languages that share any string of
SHARED characters (dialects, spellings, texts cut from one another, or left in English) form one family and stay
together: no passage that long is on both sides. The held-out languages' *meaning* may still have been seen in
another language's words.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.sources.document import Document, Provenance, clean

SHARED = 16
MIN_CHARACTERS = 60
_FIELDS = ("styles", "tester", "specimen_48", "specimen_36", "specimen_32", "specimen_21", "specimen_16")


def provenance() -> Provenance:
    """gflanguages as it appears in manifests."""
    return Provenance("gflanguages", version("gflanguages"), "Apache-2.0")


@cache  # both sides of a split ask for them
def declarations() -> tuple[Document, ...]:
    """One document a language, ordered by its key ("ar_Arab"). Raises DataError without gflanguages."""
    try:
        from gflanguages import LoadLanguages
    except ImportError:
        raise DataError("corpus.source=udhr needs the package gflanguages: pip install gflanguages") from None
    languages = LoadLanguages()
    texts = {key: _text(languages[key].sample_text) for key in sorted(languages)}
    texts = {key: text for key, text in texts.items() if len(text) >= MIN_CHARACTERS}
    family = families(texts)
    return tuple(
        Document(
            text, languages[key].language, languages[key].script, f"udhr/{key}", "Apache-2.0", family[key]
        )
        for key, text in texts.items()
    )


def families(texts: Mapping[str, str], shared: int = SHARED) -> dict[str, str]:
    """Family of each text: texts that share a string of `shared` characters are in one, named by its first key."""
    root = {key: key for key in texts}

    def find(key: str) -> str:
        while root[key] != key:
            root[key] = key = root[root[key]]
        return key

    owner: dict[str, str] = {}
    for key, text in texts.items():
        for start in range(max(1, len(text) - shared + 1)):
            other = owner.setdefault(text[start : start + shared], key)
            if other != key:
                first, second = sorted((find(key), find(other)))
                root[second] = first
    return {key: find(key) for key in texts}


def _text(sample: Any) -> str:
    """Paragraphs of the sample's fields, without those that are contained in another (fields repeat each other)."""
    kept: list[str] = []
    for name in _FIELDS:
        for paragraph in map(clean, getattr(sample, name).split("\n")):
            if paragraph and not any(paragraph in other for other in kept):
                kept = [other for other in kept if other not in paragraph] + [paragraph]
    return "\n".join(kept)
