"""The floors of the house: who may import whom, and what an import may cost."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "conf": {"train", "parallel", "data_pipeline"},
    "data_pipeline": {"train", "parallel"},
    "parallel": {"train", "data_pipeline", "conf"},
}
MODEL_MAY_IMPORT = (
    "train.model",
    "train.config",
    "parallel.layers",
    "data_pipeline.resolution",
    "conf.errors",
)
HEAVY = {"torch", "megatron", "deepspeed", "wandb", "transformers", "webdataset"}


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that `path` imports, at its top or inside a function; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which floor is entered"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no module"
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_floor_imports_nothing_from_above(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules_of(package)
        for name in imported_modules(path)
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert not wrong


def test_the_model_knows_layers_and_resolution_only() -> None:
    ours = ("train.", "parallel.", "data_pipeline.", "conf.")
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules_of("train/model")
        for name in imported_modules(path)
        if name.startswith(ours) and not name.startswith(MODEL_MAY_IMPORT)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "module",
    [
        "train",
        "parallel",
        "data_pipeline",
        "conf.command",
        "train.validate",
        "train.model.placement",
        "train.recipe",
        "parallel.topology",
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
