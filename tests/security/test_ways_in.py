"""The source itself: no file of the product has a way of reading that runs what it reads."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for folder in ("train", "parallel", "data_pipeline", "conf")
    for path in (ROOT / folder).rglob("*.py")
)
# what these read was made by this very process or its children, or is checked before anything is made of it
KNOWN = {
    "pickle": {"data_pipeline/workers.py", "parallel/metadata.py"},
    "Image.open": {
        "data_pipeline/kinds/scene/photos.py",
        "data_pipeline/kinds/molecule/drawing.py",
        "data_pipeline/render/degrade.py",
    },
    "yaml.load": {"train/settings.py"},  # with a safe loader
}
NEVER = {"eval", "exec", "os.system", "os.popen", "torch.load", "torch.hub.load", "joblib.load", "dill.load", "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "shelve.open"}  # fmt: skip


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """(what is called as it is written, its named arguments)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: word.value for word in node.keywords if word.arg}


def faults(name: str, text: str) -> Iterator[str]:
    tree = ast.parse(text)
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if "pickle" in imports and name not in KNOWN["pickle"]:
        yield "imports pickle"
    for called, words in calls(tree):
        if called in NEVER or (called == "yaml.load" and name not in KNOWN["yaml.load"]):
            yield called
        if called == "np.load" and ast.unparse(words.get("allow_pickle", ast.Constant(None))) != "False":
            yield "np.load without allow_pickle=False"
        if called == "Image.open" and "formats" not in words and name not in KNOWN["Image.open"]:
            yield "Image.open of any format: PIL's EPS reader calls Ghostscript"
        for word, value in words.items():
            if word in ("shell", "trust_remote_code") and ast.unparse(value) != "False":
                yield f"{called}({word}=)"
        if called.endswith(("extractall", "unpack_archive")):
            yield called


@pytest.mark.parametrize("folder", ["train", "parallel", "data_pipeline", "conf"])
def test_no_way_in(folder: str) -> None:
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == folder]
    assert files
    names = ((str(path.relative_to(ROOT)), path) for path in files)
    assert [f"{name}: {fault}" for name, path in names for fault in faults(name, path.read_text())] == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "torch.load(path)", "np.load(path)", "np.load(path, allow_pickle=True)", "Image.open(path)", "yaml.load(text, Loader)", "eval(text)",
     "subprocess.run(text, shell=True)", "AutoModel.from_pretrained(path, trust_remote_code=config.trust)", "tar.extractall(folder)"],
)  # fmt: skip
def test_each_of_them_would_be_seen(line: str) -> None:
    assert list(faults("train/new.py", line))
