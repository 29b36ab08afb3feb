"""A run with rounded or masked weights from its first step to a text: stopped, resumed, read with, and begun from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchao", reason="torchao is absent: install the extra `quantize`")
from conf.compose import Composer
from data_pipeline.tokenizer import byte_tokenizer
from tests.train.generate.tiny_run import TINY, write_run
from tests.train.shard_set import make_records, write_shard_set
from train.config import Config
from train.generate.decoding import Decoding, read
from train.launch.signals import StopFlag
from train.load import load_trained
from train.model.optical import build
from train.start import load_start
from train.transform.sites import sites

pytestmark = pytest.mark.usefixtures("one_process")
GROUP = 16
RUNS = {
    "int4": ["quantize=int4"],
    "int8 activations": ["quantize=int8_int4"],
    "learned": ["quantize=int3", "quantize.scales=learned"],
    "fp8": ["quantize=fp8"],
    "wanda": ["prune=wanda", "prune.batches=3"],
    "two of four": ["prune=two_of_four", "quantize=int8"],
}


@pytest.fixture(scope="module")
def place(one_process, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base's run, and pages to train it on."""
    folder = tmp_path_factory.mktemp("compressed")
    write_run(folder / "base")
    write_shard_set(folder / "pages", make_records(24))
    return folder


def trained(place: Path, name: str, steps: int, overrides: list[str]) -> dict[int, tuple[float, float]]:
    """step -> (loss, gradient norm) of a run after it has come to its step `steps`."""
    from train import stage

    pages = place / "pages"
    grain = (
        [f"quantize.group={GROUP}"] if any("int4" in given or "int3" in given for given in overrides) else []
    )
    config = Composer("config", Config).build([
        "stage=pretrain", "stage.frozen=[]", f"stage.start_from={place / 'base'}", *overrides, *grain,
        "data=folder", "~data.train.folder", "~data.held_out.folder", f"data.root={pages}",
        f"+data.train.mine.path={pages}", f"+data.held_out.mine.path={pages}", "data.modes=['64','32']",
        "data.pack=true", "data.max_length=96", "data.global_batch=4", "data.micro_batch=2", f"stage.steps={steps}",
        "stage.evaluation_pages=2", "stage.checkpoint_every=2", "optim.warmup_steps=0", "optim.schedule=constant",
        "optim.lr=0.01", f"run.directory={place}", f"run.name={name}",
    ])  # fmt: skip
    done = stage.run(replace(config, model=TINY), StopFlag())
    assert done.finished and done.step == steps
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: (row["loss"], row["grad_norm"]) for row in rows if "grad_norm" in row}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_where_it_was_and_is_read_with_what_it_used(place: Path, name: str) -> None:
    whole = trained(place, f"{name}-whole", 4, RUNS[name])
    half = trained(place, f"{name}-half", 2, RUNS[name]) | trained(place, f"{name}-half", 4, RUNS[name])
    assert half == whole and len(whole) == 4

    used = load_trained(place / f"{name}-half")
    again = {key: site.weight for key, site in sites(load_trained(place / f"{name}-whole").model).items()}
    masters = build(TINY, byte_tokenizer().image)
    load_start(place / f"{name}-half", masters)
    begun, chosen = sites(masters), 0
    for key, site in sites(used.model).items():
        assert torch.equal(site.weight, again[key]), key
        if key.startswith("decoder.decoder.layers."):
            chosen += 1
            matrix = site.weight.detach()
            assert (
                not torch.equal(matrix, begun[key].weight) or "quantize" not in RUNS[name][-1] + RUNS[name][0]
            )
            if "prune" in RUNS[name][0]:
                assert ((matrix == 0).float().mean(-1) >= 0.5).all(), key
                assert ((begun[key].weight == 0).sum(-1) == matrix.shape[-1] // 2).all(), (
                    "the next stage begins with them"
                )
            if name == "int4":
                assert all(len(group.unique()) <= 16 for group in matrix.reshape(-1, GROUP))
        else:
            assert torch.equal(site.weight, begun[key].weight), key
    assert chosen == 10
    pages = [record.pages[0] for record in make_records(3)]
    (text, *_) = read(used.model, byte_tokenizer(), pages, "", used.spec, Decoding(20))
    assert text.tokens == 20 or text.finished
