"""The tokenizer of a run as a tokenizer.json, which other programs read."""

import shutil
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from data_pipeline.tokenizer import BYTES, CONTROL, MARKUP


def write_tokenizer(spec: str, path: Path, notes: list[str]) -> None:
    """Copies the tokenizer.json that `data.tokenizer` names, or writes one with the ids of "bytes"."""
    if spec != "bytes":
        shutil.copyfile(spec, path)
        return
    path.write_text(_bytes().to_str(pretty=True), encoding="utf-8")
    notes.append("the run's tokenizer is 'bytes': tokenizer.json has one id a byte, and the same special ids")


def _bytes() -> tokenizers.Tokenizer:
    """A byte-level vocabulary without merges: ids 0 to 255 are the bytes, then the special strings."""
    letters = {letter: value for value, letter in enumerate(_letters())}
    backend = tokenizers.Tokenizer(models.BPE(vocab=letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    added = [tokenizers.AddedToken(name, normalized=False, special=True) for name in CONTROL + MARKUP]
    backend.add_special_tokens(added)
    return backend


def _letters() -> list[str]:
    """The letter that byte-level vocabularies write for each byte: itself where it is printable in Latin-1, else the
    next free one from U+0100 on. Source: GPT-2's byte-level BPE.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = iter(range(BYTES, 2 * BYTES))
    return [chr(value) if value in printable else chr(next(others)) for value in range(BYTES)]
