"""File names, page numbers and prompts as they are typed, although Hydra's grammar knows other things by these signs.

`image=scan (1).png` is no call, `pages=1-3,7` no sweep, `prompt=<image>…` no unknown character.
"""

from collections.abc import Sequence

LISTS = ("image",)
TEXTS = ("pages", "prompt")
QUOTES = ("'", '"')


def literal(arguments: Sequence[str]) -> list[str]:
    """The arguments with quotes around the values of these options; what has quotes or brackets already stays."""
    sweep = any(text in ("-m", "--multirun") for text in arguments)
    return [_literal(text, sweep) for text in arguments]


def _literal(text: str, sweep: bool) -> str:
    name, equals, value = text.partition("=")
    if name in LISTS and equals and not (value.startswith("[") and value.endswith("]")):
        return f"{name}=[{value if _quoted(value) else _quote(value)}]"
    if name in TEXTS and value not in ("", "null") and not _quoted(value) and not (sweep and "," in value):
        return f"{name}={_quote(value)}"
    return text


def _quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in QUOTES and value[-1] == value[0]


def _quote(value: str) -> str:
    return "'" + value.replace("\\'", "\\\\'").replace("'", "\\'") + "'"
