"""A tuned run from its first step to a text: stopped, resumed, loaded, read with; its base stays what it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conf.compose import Composer
from conf.errors import ConfigError
from data_pipeline.tokenizer import byte_tokenizer
from tests.train.generate.tiny_run import TINY, write_run
from tests.train.shard_set import make_records, write_shard_set
from train.config import Config
from train.generate.decoding import Decoding, read
from train.launch.signals import StopFlag
from train.load import load_trained
from train.model.names import whole_names

pytestmark = pytest.mark.usefixtures("one_process")
TOKENS = 3


@pytest.fixture(scope="module")
def place(one_process, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base's run, and pages to tune it on."""
    folder = tmp_path_factory.mktemp("tuned")
    write_run(folder / "base")
    write_shard_set(folder / "pages", make_records(24))
    return folder


def tuned(place: Path, tune: str, name: str, steps: int, *overrides: str) -> dict[int, tuple[float, float]]:
    """step -> (loss, gradient norm) of a run after it has come to its step `steps`."""
    from train import stage

    pages = place / "pages"
    config = Composer("config", Config).build([
        "stage=tune", f"tune={tune}", f"stage.start_from={place / 'base'}", f"tune.tokens={TOKENS}", "tune.width=4",
        "data=folder", "~data.train.folder", "~data.held_out.folder", f"data.root={pages}",
        f"+data.train.mine.path={pages}", f"+data.held_out.mine.path={pages}", "data.modes=['64','32']",
        "data.pack=true", "data.max_length=96", "data.global_batch=4", "data.micro_batch=2", f"stage.steps={steps}",
        "stage.evaluation_pages=2", "stage.checkpoint_every=2", "optim.warmup_steps=0", "optim.schedule=constant",
        "optim.lr=0.1", f"run.directory={place}", f"run.name={name}", *overrides,
    ])  # fmt: skip
    done = stage.run(replace(config, model=TINY), StopFlag())
    assert done.finished and done.step == steps
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: (row["loss"], row["grad_norm"]) for row in rows if "grad_norm" in row}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in whole_names(load_trained(folder).model).items()}


# parameters, in two layers
ADDED = {"adapter": 16, "prefix": 10, "p_tuning_v2": 4, "prompt": 1, "p_tuning": 7}


@pytest.mark.parametrize("tune", ADDED)
def test_a_tuned_run_goes_on_where_it_was_and_is_read_with(place: Path, tune: str) -> None:
    """The one that is stopped saves what was added alone."""
    whole = tuned(place, tune, f"{tune}-whole", 4)
    apart = f"{tune}-half", "stage.save_base=false"
    half = tuned(place, tune, apart[0], 2, apart[1]) | tuned(place, tune, apart[0], 4, apart[1])
    assert half == whole and len(whole) == 4

    base, after, again = (weights(place / name) for name in ("base", f"{tune}-whole", f"{tune}-half"))
    assert len(after) == len(base) + ADDED[tune]
    assert all(torch.equal(after[name], value) for name, value in base.items())
    assert all(torch.equal(again[name], value) for name, value in after.items())

    trained = load_trained(place / f"{tune}-whole")
    assert trained.spec.reserved == (TOKENS if tune in ("prompt", "p_tuning") else 0)
    pages = [record.pages[0] for record in make_records(3)]
    (one, *_), (other, *_) = (
        read(model, byte_tokenizer(), pages, "", spec, Decoding(20))
        for model, spec in ((trained.model, trained.spec), (load_trained(place / "base").model, trained.spec))
    )
    assert one.tokens == 20 or one.finished
    assert one.text != other.text, "what was added has a say"


def test_full_tuning_moves_everything_and_selective_what_it_names(place: Path) -> None:
    tuned(place, "full", "full", 2)
    tuned(place, "selective", "selective", 2, "tune.train=['decoder.*norm*','*.newline']")
    base, full, selective = (weights(place / name) for name in ("base", "full", "selective"))
    moved = {name for name, value in base.items() if not torch.equal(full[name], value)}
    assert moved == set(base)
    named = {
        name for name in base if name.endswith(".newline") or (name.startswith("decoder.") and "norm" in name)
    }
    assert {name for name, value in base.items() if not torch.equal(selective[name], value)} == named


def test_a_pattern_that_names_nothing_says_what_was_meant(place: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"tune.train: no .* fits \*.input_layernrm.\*. Did you mean input_layernorm"
    ):
        tuned(place, "selective", "wrong", 2, "tune.train=['*.input_layernrm.*']")
