"""Words without a language: what a model reads of them it has read, and not guessed."""

import numpy as np

from data_pipeline.sources.document import Document

WORD_LENGTHS = (2, 8)
_PRINTABLE = np.arange(33, 127, dtype=np.uint8)


def random_words(rng: np.random.Generator, budget: int) -> Document:
    """Words of 2 to 8 random printable ASCII characters, parted by spaces, `budget` bytes in all at most."""
    text = rng.choice(_PRINTABLE, size=budget)
    place = -1
    while (place := place + 1 + int(rng.integers(WORD_LENGTHS[0], WORD_LENGTHS[1] + 1))) < budget:
        text[place] = 32
    return Document(text.tobytes().decode("ascii").strip(), "zxx", "Latn", "random", "none", "random")
