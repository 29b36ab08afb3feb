"""What `--help` prints: what the command does, its groups with their choices, its options, and examples to
copy.
"""

import textwrap
from collections.abc import Sequence

from conf.comments import option_comments
from conf.compose import Composer

FLAGS = {
    "--cfg job": "print the configuration that would run, and stop (--resolve: with references filled in)",
    "-m, --multirun": "several values, one run each: optim.lr=1e-3,4e-3",
    "--config-dir DIR": "a folder of your own with further choices: DIR/model/mine.yaml, then model=mine",
    "-sc install=bash": 'print the line that turns on TAB completion: eval "$(PROGRAM -sc install=bash)"',
    "-h, --help": "this text",
}


def help_text(program: str, composer: Composer, description: str, examples: Sequence[str]) -> str:
    """The whole help text of `program`."""
    blocks = [
        textwrap.fill(" ".join(description.split()), 100),
        f"usage: {program} [GROUP=CHOICE ...] [OPTION=VALUE ...] [flags]",
    ]
    if groups := _groups(composer):
        blocks.append("Groups (* is taken when you say nothing):\n" + _table(groups))
    blocks.append("Options (`--cfg job` shows the values):\n" + _table(_options(composer)))
    blocks.append(
        "Flags:\n" + _table({flag: text.replace("PROGRAM", program) for flag, text in FLAGS.items()})
    )
    if examples:
        blocks.append(
            "Examples:\n"
            + textwrap.indent("\n".join(_command(program, example) for example in examples), "  ")
        )
    return "\n\n".join(blocks)


def _command(program: str, example: str) -> str:
    """An example may be a whole command line or the arguments alone."""
    return example if example.startswith(("python ", "torchrun ", "srun ")) else f"{program} {example}"


def _groups(composer: Composer) -> dict[str, str]:
    """Group → its choices, the default marked."""
    defaults = composer.defaults
    return {
        group: "  ".join(choice + "*" * (choice == defaults[group]) for choice in choices)
        for group, choices in composer.choices.items()
    }


def _options(composer: Composer) -> dict[str, str]:
    """Option → what it is for; without the record of what was typed."""
    found = option_comments(composer.schema)
    found.pop("overrides", None)
    return found


def _table(rows: dict[str, str]) -> str:
    """Two columns; the second is wrapped at 110 characters."""
    width = min(36, max(len(left) for left in rows)) + 4
    lines = []
    for left, right in rows.items():
        wrapped = textwrap.wrap(right, 110 - width, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append((f"  {left} ".ljust(width) + wrapped[0]).rstrip())
        lines += [" " * width + line for line in wrapped[1:]]
    return "\n".join(lines)
