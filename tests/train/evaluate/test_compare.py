"""Evaluations stand beside each other only where their axes are the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from conf.errors import ConfigError
from train.evaluate.compare import check_comparable, differences, read_compared, with_names


def content(name: str = "a", tokens: str = "t", pages: str = "p", rule: str = "none") -> dict[str, Any]:
    return {
        "name": name, "step": 7, "tokenizer": {"name": f"vocabulary {tokens}", "digest": tokens},
        "data": {"digest": pages}, "decoding": {"no_repeat": rule}, "bins": [],
    }  # fmt: skip


def test_a_run_its_evaluation_and_the_file_itself_are_understood(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    path = tmp_path / "evaluation" / "metrics.json"
    path.write_text(json.dumps(content()))
    found = read_compared([str(tmp_path), str(path.parent), str(path)])
    assert found == [content()] * 3


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"name": "a"}'])
def test_what_is_no_evaluation_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ConfigError, match="compare=.*: no evaluation"):
        read_compared([str(tmp_path)])


def test_ratios_counted_with_other_tokens_are_refused() -> None:
    check_comparable(content()["tokenizer"], [content("b")])
    with pytest.raises(ConfigError, match="b counts text tokens with vocabulary u.*vocabulary t"):
        check_comparable(content()["tokenizer"], [content("b", tokens="u")])


def test_other_pages_and_rules_are_told() -> None:
    assert differences(content(), [content("b")]) == []
    told = differences(content(), [content("b", pages="q"), content("c", rule="pdf")])
    assert told == [
        "“b” was evaluated on other pages.",
        "“c” was read with another rule against repetition.",
    ]


def test_equal_names_are_told_apart() -> None:
    others = with_names("a", [content("a"), content("a"), content("b")])
    assert [other["name"] for other in others] == ["a, step 7", "a (2)", "b"]
