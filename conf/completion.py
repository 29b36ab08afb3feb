"""TAB completion in bash (and zsh through bashcompinit) for `python -m PACKAGE ...`.

Hydra completes scripts and installed programs, not `python -m`, so the shell function is ours. It asks the
program itself what may follow.
"""

import os
from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from conf import schema as schemas
from conf.compose import Composer

SHELL_FUNCTION = r"""
_microfiche_complete() {
    local words; read -r -a words <<< "${COMP_LINE:0:COMP_POINT}"
    if [[ "${words[1]}" == -m && "${words[2]}" =~ ^(train|data_pipeline)(\.|$) && ${#words[@]} -ge 3 ]]; then
        export COMP_LINE COMP_POINT
        COMPREPLY=($("${words[0]}" -m "${words[2]}" -sc query=bash 2>/dev/null))
        [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" != *[=./] ]] && COMPREPLY[0]+=" "
    else
        COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
    fi
}
[[ -n "$ZSH_VERSION" ]] && autoload -U +X bashcompinit && bashcompinit
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _microfiche_complete python python3
"""


def answer(composer: Composer) -> str:
    """The completions of the command line in $COMP_LINE, one a line."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "100000"))]
    word = "" if line.endswith(" ") else (line.split() or [""])[-1]
    return "\n".join(candidates(composer, word))


def candidates(composer: Composer, word: str) -> list[str]:
    """What `word` may become: group names and option names, then choices and present values after the `=`."""
    name, equals, _ = word.partition("=")
    if equals:
        values = (f"{name}={value}" for value in _values(composer, name))
        return sorted(value for value in values if value.startswith(word))
    options = [path for path in schemas.option_paths(composer.schema) if path != "overrides"]
    matching = sorted(f"{path}=" for path in (*composer.choices, *options) if path.startswith(word))
    if len(matching) <= 1 or "." in word:
        return matching
    return sorted({path.partition(".")[0] + "." if "." in path else path for path in matching})


def _values(composer: Composer, name: str) -> Iterator[str]:
    """Choices of a group; the present value of an option; both where a name is both."""
    yield from composer.choices.get(name, [])
    present = OmegaConf.select(composer.compose([]), name, default=None)
    if present is not None and not isinstance(present, DictConfig):
        yield str(present).replace(" ", "") if not isinstance(present, bool) else str(present).lower()
