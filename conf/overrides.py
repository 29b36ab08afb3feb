"""Overrides as they are typed, and as Hydra's grammar reads them."""

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from conf.errors import ConfigError


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra reads them. Raises ConfigError for one that cannot be read."""
    parsed = []
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"{text}: not an override. Write OPTION=VALUE, or GROUP=CHOICE.")
        try:
            parsed += OverridesParser.create().parse_overrides([quote_elements(text)])
        except OverrideParseException as error:
            reason = str(error.message).splitlines()[0]
            raise ConfigError(
                f"{text}: cannot be read ({reason}). A value with commas, brackets or quotes in it needs quotes around it: "
                f"{text.partition('=')[0]}='\"...\"'"
            ) from error
    return parsed


def quote_elements(text: str) -> str:
    """`common=[optim.lr=1,~data.train.b]` with quotes around each element that is an override itself.

    Hydra's grammar wants them, and a shell eats them. A list that has quotes already stays as it is.
    """
    name, _, value = text.partition("=")
    inner = value[1:-1]
    is_list = value.startswith("[") and value.endswith("]")
    if not is_list or not set("=~+") & set(inner) or set("'\"") & set(inner):
        return text
    elements, depth = [""], 0
    for character in inner:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += character
    quoted = [f"'{element.strip()}'" if set("=~+") & set(element) else element for element in elements]
    return f"{name}=[{','.join(quoted)}]"
