"""Other evaluations beside this one: their metrics.json, if their curves can share an axis with ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conf.errors import ConfigError
from train.run_folder import read_json

NAME = "metrics.json"


def read_compared(paths: Sequence[str]) -> list[dict[str, Any]]:
    """The contents of metrics.json files, each given itself, by its folder, or by the run's. Raises ConfigError for one
    that is none.
    """
    return [_read(Path(path)) for path in paths]


def check_comparable(tokenizer: dict[str, Any], others: Sequence[dict[str, Any]]) -> None:
    """Raises ConfigError where text tokens are counted otherwise than with `tokenizer` (as metrics.json has it)."""
    for other in others:
        if other["tokenizer"]["digest"] != tokenizer["digest"]:
            raise ConfigError(
                f"compare: {other['name']} counts text tokens with {other['tokenizer']['name']}, this evaluation with "
                f"{tokenizer['name']}: their ratios are not comparable. Evaluate both with the same one"
            )


def differences(own: dict[str, Any], others: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences about what differs besides the model."""
    caveats = []
    for other in others:
        if other["data"]["digest"] != own["data"]["digest"]:
            caveats.append(f"“{other['name']}” was evaluated on other pages.")
        if other["decoding"]["no_repeat"] != own["decoding"]["no_repeat"]:
            caveats.append(f"“{other['name']}” was read with another rule against repetition.")
    return caveats


def with_names(own: str, others: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The others, each under a name that none else has: equal names get their step or a number behind them."""
    taken, named = {own}, []
    for other in others:
        name = other["name"] if other["name"] not in taken else f"{other['name']}, step {other['step']}"
        number = 2
        while name in taken:
            name, number = f"{other['name']} ({number})", number + 1
        taken.add(name)
        named.append({**other, "name": name})
    return named


def _read(path: Path) -> dict[str, Any]:
    places = [path] if path.is_file() else [path / NAME, path / "evaluation" / NAME]
    content = next((found for place in places if (found := read_json(place)) is not None), None)
    needed = {"name", "step", "tokenizer", "data", "decoding", "bins"}
    if not isinstance(content, dict) or not needed <= content.keys():
        raise ConfigError(
            f"compare={path}: no evaluation; give a metrics.json that `python -m train.evaluate` wrote, or its folder"
        )
    return content
