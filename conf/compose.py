"""YAML files and overrides → one typed configuration object, or a `ConfigError` that says what to type instead.

Hydra composes. It lets some mistakes through (`+new=1`, `~seed`) and reports others in its own terms, so overrides are looked at here too:
those two before composing, the rest when composing has failed, to find the override at fault and the one that was probably meant.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from conf import schema as schemas
from conf.errors import ConfigError

FOLDER = Path(__file__).resolve().parent  # the same files in a checkout and in an installed package
SchemaT = TypeVar("SchemaT")


@dataclass
class Composer:
    """Composes one command's configuration. `extra_folder`: a user's own folder of groups, searched besides ours."""

    config_name: str  # conf/NAME.yaml, or no file: then the schema's defaults are the whole configuration
    schema: type
    extra_folder: Path | None = None
    _choices: dict[str, list[str]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        has_file = (FOLDER / f"{self.config_name}.yaml").is_file()
        ConfigStore.instance().store(name=f"{self.config_name}_schema" if has_file else self.config_name, node=self.schema)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration that `overrides` select, not yet resolved. Raises ConfigError."""
        overrides = [quote_elements(text) for text in overrides]
        for override in parse(overrides):
            self._refuse_prefix(override)
            if override.is_sweep_override():
                raise ConfigError(f"{override.input_line}: several values for one run. Add -m to run one after the other, or quote a text "
                                  f"with a comma: {override.get_key_element()}='\"a,b\"'.")
        try:
            return self._hydra(overrides)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            problem = error
        for override in parse(overrides):
            if message := self._explain(override):
                raise ConfigError(message) from problem
        raise ConfigError(_plain(problem)) from problem

    def build(self, overrides: Sequence[str]) -> Any:
        """The typed object that `overrides` select, all interpolations resolved. Raises ConfigError.

        A schema that has a field `overrides: list[str]` gets the overrides themselves there, for the record.
        """
        composed = self.compose(overrides)
        try:
            built = OmegaConf.to_object(composed)
        except MissingMandatoryValue as error:
            name = getattr(error, "full_key", None) or "an option"
            raise ConfigError(f"{name} is not set: give {'+' * self._in_dictionary(name)}{name}=VALUE.") from error
        except OmegaConfBaseException as error:
            raise ConfigError(_plain(error)) from error
        if any(member.name == "overrides" for member in fields(self.schema)):
            built.overrides = list(overrides)  # type: ignore[union-attr]
        return built

    def choices(self) -> dict[str, list[str]]:
        """The groups of this command, each with its choices; the chosen one is in `defaults`."""
        if self._choices is None:
            self._choices = {}
            with self._session([]) as composed:
                for group in composed.hydra.runtime.choices:
                    if not group.startswith("hydra/"):
                        loader = GlobalHydra.instance().config_loader()
                        self._choices[group] = loader.get_group_options(group, ObjectType.CONFIG)
        return self._choices

    def defaults(self) -> dict[str, str | None]:
        """Which choice of each group is taken when the user says nothing."""
        with self._session([]) as composed:
            return {group: choice for group, choice in composed.hydra.runtime.choices.items() if not group.startswith("hydra/")}

    def _hydra(self, overrides: Sequence[str]) -> DictConfig:
        """Hydra's composition, plus the entries that `+` adds to dictionaries, which OmegaConf's update refuses where entries are typed."""
        added = [override for override in parse(overrides) if override.is_add() and self._in_dictionary(override.key_or_group)]
        entries = [override.input_line for override in added]
        with self._session([text for text in overrides if text not in entries]) as composed:
            with open_dict(composed):
                del composed["hydra"]
                for override in added:
                    entry = override.value()
                    for part in reversed(override.key_or_group.split(".")):
                        entry = {part: entry}
                    composed.merge_with(entry)
            return composed

    def _session(self, overrides: Sequence[str]) -> "_Session":
        return _Session(self, overrides)

    def _refuse_prefix(self, override: Override) -> None:
        """`+`, `++` and `~` act on dictionaries alone: every other option exists once and always has a value."""
        name = override.key_or_group
        if name.startswith("hydra"):
            return
        kind, parent = schemas.option_type(self.schema, name), schemas.option_type(self.schema, name.rpartition(".")[0] or "?")
        if override.is_delete() and not schemas.is_open(parent):
            raise ConfigError(f"{override.input_line}: an option cannot be removed. Write {name}=VALUE to change it.")
        if override.is_add() and not self._in_dictionary(name):
            if kind is not None:
                raise ConfigError(f"{override.input_line}: {name} exists already. Write it without the +: {name}={override.value()}")
            if name not in self.choices():
                raise ConfigError(f"{override.input_line}: " + self._unknown(name))
            raise ConfigError(f"{override.input_line}: write it without the +: {name}={override.value()}")

    def _explain(self, override: Override) -> str | None:
        """What is wrong with this one override, None when nothing is."""
        name, typed = override.key_or_group, override.input_line
        if name.startswith("hydra") or override.package is not None:
            return None
        if name in self.choices() and not isinstance(override.value(), dict):
            return self._explain_choice(name, override.value())
        return self._explain_value(name, override.value(), typed) or (None if override.is_add() else self._explain_entry(name, typed))

    def _explain_value(self, name: str, value: Any, typed: str) -> str | None:
        """What is wrong with giving this value to this option, or to the options in it."""
        kind = schemas.option_type(self.schema, name)
        if kind is None:
            return f"{typed}: " + self._unknown(name)
        if schemas.is_section(kind) and isinstance(value, dict):
            return next((m for key, inner in value.items() if (m := self._explain_value(f"{name}.{key}", inner, typed))), None)
        if schemas.is_section(kind):
            inside = list(schemas.option_paths(kind, name + "."))
            return f"{typed}: {name} holds several options, set them one by one: {', '.join(inside[:6])}"
        if not schemas.accepts(kind, value):
            return f"{typed}: {name} must be {schemas.expected(kind)}, not {value if isinstance(value, str) else typed.partition('=')[2]}."
        return None

    def _explain_entry(self, name: str, typed: str) -> str | None:
        """Whether an override names an entry that its dictionary does not have."""
        parts = name.split(".")
        for end in range(1, len(parts)):
            folder = ".".join(parts[:end])
            if schemas.is_open(schemas.option_type(self.schema, folder)):
                present = [str(entry) for entry in OmegaConf.select(self._hydra([]), folder, default={})]
                if parts[end] not in present:
                    return f"{typed}: {folder} has no {parts[end]}. It has: {', '.join(present) or 'nothing yet'}. To add one: +{typed}"
        return None

    def _explain_choice(self, group: str, value: Any) -> str | None:
        known = self.choices()[group]
        for choice in value if isinstance(value, list) else [value]:
            if str(choice) not in known and choice is not None:
                guess = schemas.nearest(str(choice), known, 1)
                meant = f"Did you mean {group}={guess[0]}? " if guess else ""
                return f"{group}={choice}: {group} has no choice of that name. {meant}Choices: {', '.join(known)}."
        return None

    def _in_dictionary(self, path: str) -> bool:
        """Whether `path` lies in a dictionary, where new names may be added."""
        parts = path.split(".")
        return any(schemas.is_open(schemas.option_type(self.schema, ".".join(parts[:end]))) for end in range(1, len(parts)))

    def _unknown(self, name: str) -> str:
        """The sentence about an option that does not exist."""
        groups = [] if "." in name else list(self.choices())
        guesses = schemas.nearest(name, [*schemas.option_paths(self.schema), *groups])
        hint = f"Did you mean {' or '.join(guesses)}?" if guesses else "--help lists them all."
        return f"there is no option {name}. {hint}"


class _Session:
    """Hydra is a process-wide singleton: initialised for one composition, and cleared again."""

    def __init__(self, composer: Composer, overrides: Sequence[str]) -> None:
        extra = [f"hydra.searchpath=['file://{composer.extra_folder.resolve()}']"] if composer.extra_folder else []
        self.name, self.overrides = composer.config_name, [*overrides, *extra]

    def __enter__(self) -> DictConfig:
        self.context = initialize_config_dir(str(FOLDER), version_base="1.3", job_name=self.name)
        self.context.__enter__()
        try:
            return hydra_compose(self.name, self.overrides, return_hydra_config=True)
        except BaseException:
            self.context.__exit__(None, None, None)
            raise

    def __exit__(self, *details: Any) -> None:
        self.context.__exit__(*details)


def quote_elements(text: str) -> str:
    """`common=[optim.lr=1,stage.frozen=[a,b]]` → each element that has a `=` in quotes, which Hydra's grammar asks for and a shell eats."""
    name, equals, value = text.partition("=")
    inner = value[1:-1]
    if not equals or not (value.startswith("[") and value.endswith("]")) or "=" not in inner or "'" in inner or '"' in inner:
        return text
    elements, depth = [""], 0
    for character in inner:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += character
    quoted = [f"'{element.strip()}'" if "=" in element else element for element in elements]
    return f"{name}=[{','.join(quoted)}]"


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra reads them. Raises ConfigError for one that cannot be read."""
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"{text}: not an override. Write OPTION=VALUE, or GROUP=CHOICE.")
    parsed = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([quote_elements(text)])
        except OverrideParseException as error:
            reason = str(error.message).splitlines()[0]
            raise ConfigError(f"{text}: cannot be read ({reason}). A value with spaces, commas or brackets needs quotes: "
                              f"{text.partition('=')[0]}='\"...\"'.") from error
    return parsed


def compose(config_name: str, schema: type[SchemaT], overrides: Sequence[str] = ()) -> SchemaT:
    """`conf/CONFIG_NAME.yaml` with `overrides`, as an object of `schema`. Raises ConfigError."""
    return Composer(config_name, schema).build(overrides)


def _plain(error: BaseException) -> str:
    """Hydra's, OmegaConf's or YAML's own words, without their layout."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {error.problem}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line.removeprefix("full_key: ") + ": " for line in lines if line.startswith("full_key: ")), "")
    return named + " ".join(line for line in lines if not line.startswith(("full_key: ", "object_type=", "reference_type=")))
