"""What peft loads computes what we trained; what it cannot express is worked into the weights, and comes off again."""

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch

from conf.errors import ConfigError
from tests.train.convert.folders import IMAGE, exported, run_folder, size
from tests.train.model.peer_model import our_logits, page_batch, their_logits, tolerance
from tests.train.model.small_model import without_zeros
from train.adapt.export.command import factored
from train.adapt.export.config import ExportConfig, check
from train.config import TuneConfig
from train.convert.names import box_of, entries, theirs
from train.find_run import read_config
from train.load import load_trained
from train.model.optical import build
from train.remake.weights import weights_of
from train.run_folder import write_text
from train.transform.attach import attach

DENSE = [
    "attention",
    "dense",
    "shared_experts",
    "embedding",
    "head",
    "window",
    "global",
    "convolutions",
    "projector",
]
pytestmark = pytest.mark.usefixtures("one_process")


def tuned(folder: Path, kind: str, targets: list[str], **options) -> tuple[Path, Path]:
    """(base run, tuned run): a model with random weights, and factors around it that say something."""
    from omegaconf import OmegaConf

    model = size()
    base = run_folder(folder / "base", model, without_zeros(build(model, IMAGE, seed=3)))
    config = replace(
        read_config(base / "config.yaml"), tune=TuneConfig(kind, targets, rank=4, alpha=8.0, **options)
    )
    module = load_trained(base).model
    attach(config, module)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("low_rank.b"):
                parameter.normal_(0.0, 0.1, generator=generator)
            if name.endswith("low_rank.m"):
                parameter.mul_(torch.rand(parameter.shape, generator=generator) + 0.5)
    run = run_folder(folder / "tuned", model, module)
    write_text(run / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    return base, run


def export(run: Path, to: Path, **options) -> Path:
    """As the command does, in the process groups of the test."""
    from train.adapt.export import command
    from train.run_folder import written_whole

    config = ExportConfig(checkpoint=str(run), to=str(to), **options)
    check(config)
    with written_whole(to) as working:
        write = command._merged if config.merge else command._adapter
        write(config, read_config(run / "config.yaml"), working)
    return to


def pages(run: Path):
    return page_batch(
        read_config(run / "config.yaml").model, ["128", "96+64"], [(90, 200), (300, 200)], seed=1
    )


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_transformers_with_peft_gives_the_logits_that_we_trained(tmp_path, kind):
    from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrForConditionalGeneration

    base, run = tuned(tmp_path, kind, DENSE, ranks={"attention": 3}, rank_stabilised=kind == "lora")
    adapter = export(run, tmp_path / "adapter", library="transformers")
    exported(base, tmp_path / "released")
    model = UnlimitedOcrForConditionalGeneration.from_pretrained(tmp_path / "released").eval()
    with torch.no_grad():
        before = their_logits(model, pages(base))
        loaded = peft.PeftModel.from_pretrained(model, adapter).eval()
        taken = {name for name in peft.get_peft_model_state_dict(loaded) if "lora_" in name}
        expected, batch = their_logits(loaded.base_model.model, pages(base)), pages(base)
        found = our_logits(load_trained(run).model, batch)
    assert {name.replace("model.language_model.", "model.") for name in taken} == json_tensors(adapter).keys()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance(expected))
    assert (before - expected).abs().max() > 0.5, "the factors say something"


def json_tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_on_the_releases_own_layers_peft_merges_to_the_weights_that_we_use(tmp_path):
    """The released code is not here; layers of its names are, one for each expert, and peft's DoRA on them."""
    base, run = tuned(tmp_path, "dora", ["attention", "dense", "shared_experts", "experts", "head", "global"])
    adapter = export(run, tmp_path / "adapter")
    model = read_config(run / "config.yaml").model
    skeleton, plain = torch.nn.Module(), load_trained(base).model
    for name, value in released(model, plain).items():
        if name.endswith(".weight") and value.ndim == 2:
            place(skeleton, name.removesuffix(".weight"), value)
    loaded = peft.PeftModel.from_pretrained(skeleton, adapter)
    merged = loaded.merge_and_unload()
    wanted = released(model, load_trained(run).model)
    names = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    assert len(names) == len({*names}) and any(".experts.7.down_proj" in name for name in names)
    for name in names:
        torch.testing.assert_close(
            merged.get_submodule(name).weight, wanted[f"{name}.weight"], rtol=1e-5, atol=1e-6
        )
    assert not torch.equal(wanted[f"{names[0]}.weight"], released(model, plain)[f"{names[0]}.weight"])


def released(model, module) -> dict[str, torch.Tensor]:
    """The weights of a model by their released names."""
    weights = weights_of(module)
    return {
        name: value.detach().clone()
        for entry in entries(model)
        for part in entry.parts
        for name, value in zip(part.names, theirs(part, box_of(part, weights[entry.key])))
    }


def place(root: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, torch.nn.Module())
        root = root.get_submodule(part)
    layer = torch.nn.Linear(value.shape[1], value.shape[0], bias=False)
    layer.weight.data = value
    root.add_module(last, layer)


def test_a_merged_run_reads_as_the_factors_did_and_has_none(tmp_path):
    _, run = tuned(tmp_path, "dora", [*DENSE, "experts"])
    merged = export(run, tmp_path / "merged", merge=True)
    again = load_trained(merged)
    assert read_config(merged / "config.yaml").tune.kind == "none"
    batch = pages(run)
    with torch.no_grad():
        expected = our_logits(load_trained(run).model, batch)
        torch.testing.assert_close(our_logits(again.model, batch), expected, rtol=0, atol=tolerance(expected))


def test_merging_is_undone_to_the_base(tmp_path):
    from train.adapt.export.merge import undone
    from train.transform.sites import sites

    base, run = tuned(tmp_path, "dora", [*DENSE, "experts"])
    model = factored(run, read_config(run / "config.yaml"))
    assert undone(model) < 1e-5
    before = weights_of(load_trained(base).model)
    site = sites(model)["decoder.decoder.layers.0.self_attention.linear_proj"]
    transform = site.owner.chain()["low_rank"]
    with torch.no_grad():
        used = transform(site.weight)
        assert (used - site.weight).abs().max() > 0.05
        back = transform.unmerged(used)
    torch.testing.assert_close(
        back, before["decoder.decoder.layers.0.self_attention.linear_proj.weight"], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("targets", "options", "settings", "said"),
    [
        (["experts"], {"library": "transformers"}, {}, "merge=true"),
        (["attention"], {"library": "torch"}, {}, "released, transformers"),
        (["attention"], {}, {"train": ["decoder.*norm*"]}, "tune.train"),
    ],
)
def test_what_peft_cannot_express_is_refused_with_the_way_out(tmp_path, targets, options, settings, said):
    _, run = tuned(tmp_path, "dora", targets, **settings)
    with pytest.raises(ConfigError, match=said):
        check(ExportConfig(checkpoint=str(run), to=str(tmp_path / "adapter"), **options))


def test_a_run_without_factors_is_refused_and_nothing_is_overwritten(tmp_path):
    base, run = tuned(tmp_path, "lora", ["attention"])
    with pytest.raises(ConfigError, match=r"tune=none added no factors"):
        check(ExportConfig(checkpoint=str(base), to=str(tmp_path / "adapter")))
    with pytest.raises(ConfigError, match="not empty"):
        check(ExportConfig(checkpoint=str(run), to=str(base)))
