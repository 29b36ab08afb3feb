"""The command line that all commands share: overrides in, a typed configuration out, and errors as one
message.

`run` is what a command's `__main__` calls. It imports Hydra and nothing heavier, so that help texts, `--cfg
job` and mistakes are answered at once; the command imports torch when its `main` runs.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from hydra.core.override_parser.types import Glob
from omegaconf import OmegaConf

from conf import completion
from conf.compose import Composer
from conf.errors import ConfigError
from conf.help import help_text
from conf.overrides import parse

SchemaT = TypeVar("SchemaT")
USER_ERROR = 2
INTERRUPTED = 130


def run(
    main: Callable[[SchemaT], object],
    config_name: str,
    schema: type[SchemaT],
    argv: Sequence[str] | None = None,
    description: str = "",
    examples: Sequence[str] = (),
    check: Callable[[SchemaT], None] | None = None,
    name_option: str | None = None,
    short: Mapping[str, str] = MappingProxyType({}),
    positional: Sequence[str] = (),
) -> int:
    """Runs `main(config)` with the configuration that `argv` (default: the process's arguments) selects;
    returns the exit code.

    config_name: `conf/NAME.yaml`; without such a file the defaults of `schema`, a dataclass, are the whole
    configuration. In the file, `defaults:` starts with `NAME_schema`. A schema that has a field `overrides:
    list[str]` gets the typed overrides there.
    check: raises ConfigError for impossible values; called before `main`, and for every run of a sweep before
    the first one starts.
    name_option: the option that names where a run writes; each run of a sweep (`-m`) gets a name of its own
    there.

    short: short names of options, such as {"from": "stage.start_from"}. positional: options that may be given by their values
    alone, in this order, as files are.

    What a user can do wrong (ConfigError, and every exception with a true attribute `user_error` or of
    data_pipeline.errors.UserError) is printed without a traceback; the exit code is 2. Ctrl-C: 130. An int
    that `main` returns is the exit code.
    """
    program = _program()
    try:
        return _run(
            program,
            main,
            config_name,
            schema,
            sys.argv[1:] if argv is None else argv,
            description,
            examples,
            check,
            name_option,
            short,
            positional,
        )
    except KeyboardInterrupt:
        print(f"{program}: stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not is_user_error(error):
            raise
        _print_error(program, error)
        return USER_ERROR


def is_user_error(error: BaseException) -> bool:
    """Whether an error is the user's to mend, by its message alone."""
    if getattr(error, "user_error", False):
        return True
    errors = sys.modules.get("data_pipeline.errors")  # nothing raised it if nothing imported it
    return errors is not None and isinstance(error, errors.UserError)


def _run(
    program: str,
    main: Callable[[Any], object],
    config_name: str,
    schema: type,
    argv: Sequence[str],
    description: str,
    examples: Sequence[str],
    check: Callable[[Any], None] | None,
    name_option: str | None,
    short: Mapping[str, str],
    positional: Sequence[str],
) -> int:
    flags = _parse_flags(argv)
    flags.overrides = [_in_full(override, short) for override in _named(flags.overrides, positional)]
    composer = Composer(config_name, schema, flags.config_dir)
    if flags.help:
        print(help_text(program, composer, description, examples))
    elif flags.shell_completion:
        print(
            completion.answer(composer)
            if flags.shell_completion == "query=bash"
            else completion.SHELL_FUNCTION
        )
    elif flags.cfg:
        print(OmegaConf.to_yaml(composer.compose(flags.overrides), resolve=flags.resolve), end="")
    else:
        jobs = list(_sweep(composer, flags.overrides, name_option)) if flags.multirun else [flags.overrides]
        configs = [composer.build(overrides) for overrides in jobs]
        for config in configs:
            if check:
                check(config)
        for index, (config, overrides) in enumerate(zip(configs, jobs, strict=True), 1):
            if flags.multirun:
                print(f"[{index} of {len(jobs)}] {' '.join(overrides)}", flush=True)
            code = main(config)
            if isinstance(code, int) and code:
                return code
    return 0


def _named(arguments: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The arguments as overrides: those that are none are values of `names`, in this order."""
    left = iter(names)
    for argument in arguments:
        # the folders that a sweep makes have an equals sign in their names
        # (os.path: a list of overrides may be longer than a name can be, and is then no file's)
        is_value = ("=" not in argument and not argument.startswith("~")) or os.path.exists(argument)
        name = next(left, None) if is_value else None
        quoted = argument.replace("\\", "\\\\").replace("'", "\\'")
        yield f"{name}='{quoted}'" if name else argument


def _in_full(override: str, short: Mapping[str, str]) -> str:
    name, equals, value = override.partition("=")
    return f"{short.get(name, name)}{equals}{value}"


def _sweep(composer: Composer, overrides: Sequence[str], name_option: str | None) -> Iterator[list[str]]:
    """The overrides of each run of a sweep: all combinations, in the order of typing, the last one changing
    fastest.
    """
    if _environment_number("WORLD_SIZE", "SLURM_NTASKS", default=1) > 1:
        raise ConfigError(
            "-m runs one after the other in one process: start each run of several processes by a command of its own."
        )
    axes: list[list[str]] = []
    for override in parse(overrides):
        if not override.is_sweep_override():
            axes.append([str(override.input_line)])
        elif isinstance(override.value(), Glob):
            names = override.value().filter(composer.choices.get(override.key_or_group, []))  # type: ignore[union-attr]
            axes.append([f"{override.key_or_group}={name}" for name in names])
        else:
            axes.append(
                [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            )
    varied = [axis for axis in axes if len(axis) > 1]
    for job in itertools.product(*axes):
        suffix = ",".join(part for part in job if any(part in axis for axis in varied))
        if name_option and suffix and name_option not in suffix:
            base = OmegaConf.select(composer.compose(job), name_option)
            job = (*job, f"{name_option}='{base}-{suffix.replace('/', '_')}'")
        yield list(job)


class _Flags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. --help lists the flags.")


def _parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Flags(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--shell-completion", "-sc", choices=["install=bash", "query=bash"])
    flags = parser.parse_intermixed_args(list(argv))
    if flags.config_dir and not flags.config_dir.is_dir():
        raise ConfigError(f"--config-dir {flags.config_dir}: there is no such folder.")
    return flags


def _print_error(program: str, error: Exception) -> None:
    """One message on stderr. All ranks find the same fault in a configuration: the first one tells it."""
    rank = _environment_number("RANK", "SLURM_PROCID", default=0)
    if rank == 0:
        print(f"{program}: {error}", file=sys.stderr)
    elif not getattr(error, "same_everywhere", False):
        print(f"{program} [rank {rank}]: {error}", file=sys.stderr)
    _tell_torchrun(str(error))


def _tell_torchrun(message: str) -> None:
    """Gives torchrun the message: it prints a long trace of its own below ours, with this in it as the root cause."""
    reply = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if reply:
        content = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with suppress(OSError):
            Path(reply).parent.mkdir(parents=True, exist_ok=True)
            Path(reply).write_text(json.dumps(content))


def _environment_number(*names: str, default: int) -> int:
    """The first of these variables that is set to a number."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdecimal()), default)


def _program() -> str:
    """How the user called this command: `python -m train`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None or not spec.name:
        return Path(sys.argv[0]).name
    return "python -m " + spec.name.removesuffix(".__main__")
