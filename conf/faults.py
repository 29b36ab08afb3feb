"""What is wrong with an override, in a sentence that says what to type instead."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from conf import schema as schemas


@dataclass(frozen=True)
class Faults:
    """Looks at overrides of one schema. `choices` and `base` are called when a fault needs them: they cost a
    composition.

    choices: the groups of the command with their choices. base: the configuration without any override.
    """

    schema: type
    choices: Callable[[], dict[str, list[str]]]
    base: Callable[[], DictConfig]

    def of_prefix(self, override: Override) -> str | None:
        """What is wrong with `+`, `++` or `~` here: they act on dictionaries, all other options exist once
        and always.

        Hydra lets both through where this refuses: `+new=1` adds what nothing reads, `~seed` falls back to a
        default.
        """
        name, typed = override.key_or_group, override.input_line
        if name.startswith("hydra"):
            return None
        if override.is_delete() and not schemas.is_open(
            schemas.option_type(self.schema, name.rpartition(".")[0] or "?")
        ):
            return f"{typed}: an option cannot be removed. Write {name}=VALUE to change it."
        if is_addition(override) and not self.in_dictionary(name):
            if schemas.option_type(self.schema, name) is None and name not in self.choices():
                return f"{typed}: " + self._unknown(name)
            return f"{typed}: {name} exists already. Write it without the +: {name}={override.value()}"
        return None

    def of_value(self, override: Override) -> str | None:
        """What is wrong with the name or the value of this override."""
        name, typed, value = override.key_or_group, str(override.input_line), override.value()
        if name.startswith("hydra") or override.package is not None:
            return None
        if name in self.choices() and not isinstance(value, dict):
            return self._of_choice(name, value)
        fault = self._of_option(name, value, typed)
        return fault if fault or is_addition(override) else self._of_entry(name, typed)

    def in_dictionary(self, name: str) -> bool:
        """Whether `name` lies in a dictionary, where new names may be added."""
        parts = name.split(".")
        above = (".".join(parts[:end]) for end in range(1, len(parts)))
        return any(schemas.is_open(schemas.option_type(self.schema, path)) for path in above)

    def _of_choice(self, group: str, value: Any) -> str | None:
        known = self.choices()[group]
        for choice in value if isinstance(value, list) else [value]:
            if choice is not None and str(choice) not in known:
                guess = schemas.nearest(str(choice), known, 1)
                meant = f" Did you mean {group}={guess[0]}?" if guess else ""
                return f"{group}={choice}: {group} has no such choice.{meant} Choices: {', '.join(known)}."
        return None

    def _of_option(self, name: str, value: Any, typed: str) -> str | None:
        """Name and type; a dictionary for a section is looked into."""
        kind = schemas.option_type(self.schema, name)
        if kind is None:
            return f"{typed}: " + self._unknown(name)
        if schemas.is_section(kind) and isinstance(value, dict):
            faults = (self._of_option(f"{name}.{key}", inner, typed) for key, inner in value.items())
            return next((fault for fault in faults if fault), None)
        if schemas.is_section(kind):
            inside = list(schemas.option_paths(kind, name + "."))
            return f"{typed}: {name} holds several options, set them one by one: {', '.join(inside[:6])}"
        if not schemas.accepts(kind, value):
            shown = value if isinstance(value, str) else typed.partition("=")[2]
            return f"{typed}: {name} must be {schemas.expected(kind)}, not {shown}."
        return None

    def _of_entry(self, name: str, typed: str) -> str | None:
        """Whether `name` goes through an entry that its dictionary does not have."""
        parts = name.split(".")
        for end in range(1, len(parts)):
            folder, entry = ".".join(parts[:end]), parts[end]
            if not schemas.is_open(schemas.option_type(self.schema, folder)):
                continue
            present = [str(key) for key in OmegaConf.select(self.base(), folder, default={})]
            if entry not in present:
                known = ", ".join(present) or "nothing yet"
                return f"{typed}: {folder} has no {entry}. It has: {known}. To add one: +{typed}"
        return None

    def _unknown(self, name: str) -> str:
        """The sentence about an option that does not exist."""
        groups = [] if "." in name else list(self.choices())
        guesses = schemas.nearest(name, [*schemas.option_paths(self.schema), *groups])
        hint = f"Did you mean {' or '.join(guesses)}?" if guesses else "--help lists them all."
        return f"there is no option {name}. {hint}"


def is_addition(override: Override) -> bool:
    """Whether an override was typed with `+` or `++`."""
    return bool(override.is_add() or override.is_force_add())
