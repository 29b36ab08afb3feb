"""The command: a run of rounded values that everything else takes, and refusals before anything is loaded."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("torchao", reason="torchao is absent: install the extra `quantize`")

from conf.errors import ConfigError
from parallel.topology import Topology, start, stop
from tests.parallel.layouts import build_pages
from tests.train.generate.tiny_run import TINY, write_run
from train.config import QuantizeConfig
from train.load import load_trained
from train.quantize.command import main
from train.quantize.config import RoundConfig, check
from train.start import load_start
from train.transform.sites import sites

GROUP = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run, and pages to look at."""
    folder = tmp_path_factory.mktemp("rounded")
    build_pages(folder / "pages")
    start(Topology(), seed=0)
    write_run(folder / "run")
    stop()
    return folder


def asked(folder: Path, name: str, **options) -> RoundConfig:
    quantize = options.pop("quantize", None) or QuantizeConfig(bits=4, group=GROUP)
    return RoundConfig(
        checkpoint=str(folder / "run"), to=str(folder / name), quantize=quantize, data=str(folder / "pages" / "train" / "ratio-4"),
        pages=8, batch_size=4, **options,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["nearest", "gptq", "awq"])
def test_a_rounded_run_is_read_as_any_other_and_a_stage_starts_from_it(folder, method, capsys):
    config = asked(folder, method, method=method)
    check(config)
    main(config)
    assert "10 weights" in capsys.readouterr().out
    start(Topology(), seed=0)
    before, after = (load_trained(folder / name).model for name in ("run", method))
    again = load_trained(folder / "run").model
    assert load_start(folder / method, again) is not None
    stop()
    old, new, started = sites(before), sites(after), sites(again)
    changed = {name for name, site in new.items() if not torch.equal(site.weight, old[name].weight)}
    assert changed == {
        name for name in old if ".layers." in name and name.startswith("decoder.") and "router" not in name
    }
    assert all(torch.equal(new[name].weight, started[name].weight) for name in new)
    if method != "awq":
        matrix = new["decoder.decoder.layers.1.mlp.experts.fc1"].weight
        for group in matrix.detach().view(-1, GROUP):
            steps = group.unique().diff()
            assert len(steps) < 16 and (
                len(steps) == 0 or (steps / steps.min()).round().sub(steps / steps.min()).abs().max() < 1e-3
            )


IMPOSSIBLE = {
    "method=gptp": {"method": "gptp"},
    "quantize=int4": {"quantize": QuantizeConfig()},
    "no shards there": {"method": "gptq", "data": "/nowhere"},
    "form=run": {"method": "awq", "form": "released"},
    "does not divide": {"quantize": QuantizeConfig(bits=4, group=12)},
    "packs matrices": {
        "form": "released",
        "quantize": QuantizeConfig(bits=8, group=0, targets=["embedding"]),
    },
    "are learned in training": {"quantize": QuantizeConfig(bits=4, group=16, scales="learned")},
}


@pytest.mark.parametrize("answer", IMPOSSIBLE)
def test_what_cannot_work_is_refused_with_what_would(folder, answer):
    config = asked(folder, "nothing")
    for name, value in IMPOSSIBLE[answer].items():
        setattr(config, name, value)
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert answer in str(caught.value)
    assert TINY.decoder.layers == 2
