"""Commands are read as a shell reads them."""

from pathlib import Path

import pytest

from tests.docs.commands import Command, shell_lines, simple_commands
from tests.docs.launches import Launch, launch_of

PAGE = """
```sh
python -m train stage=encoder    # a comment
torchrun --nproc-per-node=4 -m train parallel=pp2 \\
    resume=runs/x                # of a continued line
```

```text
python -m no.command
```
"""


def test_lines_of_blocks_are_found_with_their_numbers() -> None:
    found = [(number, text) for number, line in shell_lines(PAGE) for text in simple_commands(line)]
    assert found == [
        (3, "python -m train stage=encoder"),
        (4, "torchrun --nproc-per-node=4 -m train parallel=pp2 resume=runs/x"),
    ]


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("a; b && c   # d; e", ["a", "b", "c"]),
        ("a 'x; y # z' b=\"&& c\"", ["a 'x; y # z' b=\"&& c\""]),
        ('eval "$(up; down)"; a', ['eval "$(up; down)"', "a"]),
        ("a b#c", ["a b#c"]),
        ("# only this", []),
    ],
)
def test_a_line_is_cut_where_a_shell_cuts_it(line: str, commands: list[str]) -> None:
    assert list(simple_commands(line)) == commands


@pytest.mark.parametrize(
    ("text", "launch"),
    [
        ("python -m train a='x y' b=[c,d]", Launch("train", ("a=x y", "b=[c,d]"))),
        ("torchrun --nproc-per-node 2 -m train a=1", Launch("train", ("a=1",), world=2)),
        ("OMP_NUM_THREADS=1 python -m train", Launch("train", (), 1, (("OMP_NUM_THREADS", "1"),))),
        ("python -m train | tee log", None),
        ("python -m train run.name=$NAME", None),
        ("sbatch slurm/pretrain.sh", None),
    ],
)
def test_a_command_is_what_it_starts(text: str, launch: Launch | None, tmp_path: Path) -> None:
    assert launch_of(Command(text, "README.md:1"), tmp_path) == launch


def test_make_smoke_is_what_its_rule_runs(tmp_path: Path) -> None:
    assert launch_of(Command("make smoke", "README.md:1"), tmp_path) == Launch("train.recipe", ("recipe=smoke",))
