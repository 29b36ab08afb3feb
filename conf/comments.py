"""What the fields of a configuration are for: the comments behind them in their dataclass, for `--help`."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from typing import Any, get_type_hints


def option_comments(schema: type, prefix: str = "") -> dict[str, str]:
    """Every option below `schema` as a dotted name, with the comment behind it ("" where there is none)."""
    behind = {name: text for base in reversed(schema.__mro__) for name, text in _of_class(base).items()}
    found: dict[str, str] = {}
    for name, kind in get_type_hints(schema).items():
        if dataclasses.is_dataclass(kind):
            found |= option_comments(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            found[prefix + name] = behind.get(name, "")
    return found


def _of_class(owner: Any) -> dict[str, str]:
    """Field -> comment, of the fields that a class defines itself."""
    if not dataclasses.is_dataclass(owner):
        return {}
    source = textwrap.dedent(inspect.getsource(owner))  # type: ignore[arg-type]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    return {
        name: " ".join(comments[line] for line in range(field.lineno, (field.end_lineno or 0) + 1) if line in comments)
        for field in definition.body
        for name in _names(field)
    }


def _names(statement: ast.stmt) -> list[str]:
    """The fields that a statement of a class defines: `name: type`, or for keywords `__annotations__ = {"from": type}`."""
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=[ast.Name(id="__annotations__")], value=ast.Dict(keys=keys)):
            return [str(key.value) for key in keys if isinstance(key, ast.Constant)]
    return []
