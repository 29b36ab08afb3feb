"""Samples of every sort in packed rows, and the same ones in rows of their own.

Nothing heavy is imported at the top: ranks import this before their environment is complete.
"""

from typing import Any

LONGEST = 320  # positions in a packed row: a text that fills one is attended to in blocks, others at once
MODES = ("64", "96", "64+32")  # each page is given one of them; in the last it is cut into 2 x 2 tiles
FILL = 0  # instead of a text's characters: as many as fill up the row

# Of each micro-batch the rows, of each row the samples: (pages, characters of the target)
MICRO_BATCHES = (
    (
        ((1, 30), (0, 25), (2, 40)),
        ((1, 60),),
    ),  # several pages of one sample and of others in a row; a row of one sample
    (((0, 17), (1, 20), (0, FILL)), ((0, 33), (1, 41), (1, 8))),  # full to its last position
    (((0, 50), (0, 1), (0, 90)), ((0, FILL),)),  # no page at all; a row of one sample that is full
    (((1, 12), (1, 26), (1, 19)), ((0, 22), (0, 3), (0, 11), (0, 60), (1, 9))),
)


def step(number: int, packed: bool, every_size: bool = False, reserved: int = 0) -> list[Any]:
    """The micro-batches of a step, in another order in each, each of two packed rows or of as many rows as samples."""
    return [
        micro_batch(
            100 * number + place, MICRO_BATCHES[(number + place) % 4], packed, every_size, reserved=reserved
        )
        for place in range(4)
    ]


def micro_batch(
    seed: int, rows: Any, packed: bool, every_size: bool = False, longest: int = LONGEST, reserved: int = 0
) -> Any:
    """Samples of noise as `rows` describes them, after `reserved` positions each."""
    from data_pipeline.batch import BatchSpec, Collator
    from data_pipeline.tokenizer import byte_tokenizer

    spec = BatchSpec(MODES, 8, longest, glyphs=True, every_size=every_size, reserved=reserved)
    collator = Collator(byte_tokenizer(), spec)
    filled = [_row(collator, 10 * seed + number, row, longest) for number, row in enumerate(rows)]
    if packed:
        return collator.packed(filled, [["noise"] * len(row) for row in filled])
    alone = [[sample] for row in filled for sample in row]
    return collator.rows(alone, [["noise"]] * len(alone))


def _row(collator: Any, seed: int, samples: Any, longest: int) -> list[Any]:
    found: list[Any] = []
    for place, (pages, characters) in enumerate(samples):
        key = f"s{seed}-{place}"
        if characters == FILL:
            taken = sum(len(sample.ids) for sample in found)
            (empty,) = [collator.sample(record(key, pages, ""))]
            characters = longest - taken - len(empty.ids)
        found.append(collator.sample(record(key, pages, _letters(key, characters))))
    return found


def record(key: str, pages: int, target: str) -> Any:
    """Pages of noise with a glyph map, and a target that has nothing to do with them."""
    import numpy as np

    from data_pipeline.record import Record

    generator = _generator(key)
    drawn = tuple(generator.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(pages))
    glyphs = generator.integers(0, 95, (8, 8), dtype=np.uint8) if pages else None
    prompt = "\nFree OCR." if pages else ""
    return Record(
        key, "text", prompt, target, "en", "Latn", "noise", "CC0-1.0", 0,
        pages=drawn, glyphs=glyphs, glyph_cell=8 if pages else 0,
    )  # fmt: skip


def _letters(key: str, count: int) -> str:
    generator = _generator(f"{key} text")
    return "".join(chr(97 + letter) for letter in generator.integers(0, 26, count))


def _generator(key: str) -> Any:
    import zlib

    import numpy as np

    return np.random.default_rng(zlib.crc32(key.encode()))
