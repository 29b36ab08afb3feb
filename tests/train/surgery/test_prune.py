"""Pruning takes what does nothing without a trace, and makes the model that another implementation makes of the same rows and
columns.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.train.model.small_model import small_model
from tests.train.surgery.small import apart, outputs, random_weights
from train.config import ModelConfig
from train.surgery.config import SizesConfig
from train.surgery.importance import Importance, by_magnitude
from train.surgery.prune import prune
from train.surgery.units import units_of, width_of

pytestmark = pytest.mark.usefixtures("one_process")

KEPT = {
    "heads": 3,
    "ffn": 60,
    "shared": 40,
    "expert_ffn": 20,
    "window_heads": 1,
    "window_mlp": 30,
    "global_heads": 2,
    "global_mlp": 50,
}
LAYERS = {
    "layers": ("decoder.decoder.layers.", 1),
    "window_depth": ("encoder.window.blocks.", 2),
    "global_depth": ("encoder.global.layers.", 0),
}


def without(model: ModelConfig, weights: dict[str, Tensor], kind: str, kept: int) -> dict[str, Tensor]:
    """The weights with all but `kept` units of each layer, drawn, giving nothing to what reads them."""
    generator, found = torch.Generator().manual_seed(5), dict(weights)
    for units in units_of(model, kind).values():
        for axis in units.read:
            tensors = found[axis.key] if units.of_experts else found[axis.key][None]
            parts = []
            for tensor in tensors:
                count = tensor.shape[axis.axis] // (axis.outer * axis.inner)
                factors = torch.zeros(count)
                factors[torch.randperm(count, generator=generator)[:kept]] = 1
                parts.append(axis.scaled(tensor, factors))
            found[axis.key] = torch.stack(parts) if units.of_experts else parts[0]
    return found


@pytest.mark.parametrize("kind", KEPT)
def test_units_that_give_nothing_go_without_a_trace(kind: str) -> None:
    model = small_model()
    weights = without(model, random_weights(model), kind, KEPT[kind])
    sizes = SizesConfig(**{kind: KEPT[kind]}) if kind != "shared" else SizesConfig(expert_ffn=20)
    if kind == "shared":
        weights = without(model, weights, "expert_ffn", 20)
    if kind == "expert_ffn":
        weights = without(model, weights, "shared", 40)
    found, after = prune(weights, model, sizes, by_magnitude(model, weights))
    # fp32: sums over fewer terms are taken in another order.
    assert apart(outputs(model, weights), outputs(after, found)) < 5e-6
    assert sum(value.numel() for value in found.values()) < sum(value.numel() for value in weights.values())


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_add_nothing_go_without_a_trace(name: str) -> None:
    model = small_model()
    prefix, idle = LAYERS[name]
    last = (
        "linear_proj.weight",
        "linear_fc2.weight",
        "attn.proj.weight",
        "attn.proj.bias",
        "lin2.weight",
        "lin2.bias",
        ".fc2.weight",
        ".fc2.bias",
    )
    weights = {
        key: torch.zeros_like(value) if key.startswith(f"{prefix}{idle}.") and key.endswith(last) else value
        for key, value in random_weights(model).items()
    }
    size = {"layers": 2, "window_depth": 2, "global_depth": 1}[name]
    found, after = prune(weights, model, SizesConfig(**{name: size}), by_magnitude(model, weights))
    assert torch.equal(outputs(model, weights)["logits"], outputs(after, found)["logits"])
    assert (after.decoder.dense_layers, after.encoder.global_layers) == (1, [1])


def test_the_dense_layer_may_go_and_the_block_that_sees_the_whole_page() -> None:
    model = small_model()
    weights, scores = random_weights(model), Importance()
    scores.layers = {"layers": torch.tensor([0.0, 1, 2]), "window_depth": torch.tensor([1.0, 0.5, 2])}
    found, after = prune(weights, model, SizesConfig(layers=2, window_depth=1), scores)
    assert (after.decoder.layers, after.decoder.dense_layers, after.encoder.global_layers) == (2, 0, [])
    assert outputs(after, found)["logits"].isfinite().all()


def test_features_of_the_width_that_are_zero_go_without_a_trace() -> None:
    """The norms' mean of squares is over fewer features then, and epsilon must weigh as much."""
    model = small_model()
    model.decoder.norm_eps = 1e-2
    weights = random_weights(model)
    kept = torch.randperm(64, generator=torch.Generator().manual_seed(1))[:40]
    factors = torch.zeros(64)
    factors[kept] = 1
    for axis in width_of(weights).written:
        weights[axis.key] = axis.scaled(weights[axis.key], factors)
    found, after = prune(weights, model, SizesConfig(width=40), by_magnitude(model, weights))
    assert found["encoder.newline"].shape == (40,)
    assert after.decoder.head_width == 16, "heads keep their features"
    assert apart(outputs(model, weights), outputs(after, found)) < 5e-6


def test_an_expert_that_no_token_would_ask_goes_without_a_trace() -> None:
    """Its score is as good as none: of the softmax over the others nothing is missing."""
    model = small_model()
    weights = random_weights(model)
    for axis in width_of(weights).written:  # a feature that is always there, and speaks against two experts
        always = axis.key.endswith(("embeddings.weight", "projector.bias", "newline", "separator"))
        weights[axis.key].select(axis.axis, 7).fill_(5.0 if always else 0.0)
    for layer in (1, 2):
        prefix = f"decoder.decoder.layers.{layer}.mlp."
        weights[f"{prefix}router.weight"][:, 7] = 0
        weights[f"{prefix}router.weight"][[2, 5], 7] = -60.0
        weights[f"{prefix}experts.experts.linear_fc1.weight"][:, :, 7] = 0
        for expert in (2, 5):
            weights[f"{prefix}experts.experts.linear_fc2.weight"][expert] *= 1e-3
    found, after = prune(weights, model, SizesConfig(experts=6), by_magnitude(model, weights))
    assert after.decoder.experts == 6
    assert apart(outputs(model, weights), outputs(after, found)) < 5e-6


def rows_kept(scores: Tensor, count: int) -> list[int]:
    """By Python's own sorting: the positions of the largest."""
    best = sorted(range(len(scores)), key=lambda place: -scores[place].item())[:count]
    return sorted(best)


def sliced(values: dict[str, Tensor], scores: Importance) -> dict[str, Tensor]:
    """The released tensors of the pruned model, cut by their released names: layer 1 of 3 gone, 5 of 8 experts, 24 of 32 features
    of each, 60 of 96 of the dense layer, 48 of 64 of the shared experts, 40 of 64 and 70 of 96 in the encoder.
    """
    found = {}
    for name, value in values.items():
        parts = name.split(".")
        if name.startswith("model.layers."):
            layer = int(parts[2])
            if layer == 1:
                continue
            parts[2] = {0: "0", 2: "1"}[layer]
            if ".experts." in name and "shared" not in name:
                experts = rows_kept(scores.units["experts"][layer], 5)
                if int(parts[5]) not in experts:
                    continue
                index = rows_kept(scores.units["expert_ffn"][layer][int(parts[5])], 24)
                parts[5] = str(experts.index(int(parts[5])))
                value = value[:, index] if "down_proj" in name else value[index]
            elif ".gate.weight" in name:
                value = value[rows_kept(scores.units["experts"][layer], 5)]
            elif "_proj" in name and "self_attn" not in name:
                kind, count = ("shared", 48) if "shared" in name else ("ffn", 60)
                index = rows_kept(scores.units[kind][layer], count)
                value = value[:, index] if "down_proj" in name else value[index]
        for place, kind, count, first, last in (
            ("sam_model.blocks", "window_mlp", 40, "lin1", "lin2"),
            ("transformer.layers", "global_mlp", 70, "fc1", "fc2"),
        ):
            if place in name and (f".{first}." in name or f".{last}.weight" in name):
                index = rows_kept(scores.units[kind][int(parts[3 if "sam" in place else 4])], count)
                value = value[:, index] if last in name else value[index]
        found[".".join(parts)] = value.contiguous().clone()
    return found


def test_a_pruned_model_is_the_one_that_transformers_makes_of_the_same_slices(
    peers: Any, tmp_path: Path
) -> None:
    from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrForConditionalGeneration

    from benchmarks.peer import configuration
    from tests.train.model.peer_model import IMAGE, our_logits, page_batch, their_logits, tolerance
    from train.convert.names import to_ours
    from train.remake.weights import module_of

    _, values, model = peers
    weights = to_ours(model, values)
    scores = by_magnitude(model, weights)  # only for their shapes
    generator = torch.Generator().manual_seed(2)
    scores.units = {
        kind: {layer: torch.rand(own.shape, generator=generator) for layer, own in layers.items()}
        for kind, layers in scores.units.items()
    }
    scores.layers["layers"] = torch.tensor([1.0, 0.1, 2.0])
    sizes = SizesConfig(layers=2, ffn=60, experts=5, expert_ffn=24, window_mlp=40, global_mlp=70)
    found, after = prune(weights, model, sizes, scores)

    configuration(after, IMAGE).save_pretrained(tmp_path)
    save_file(sliced(values, scores), tmp_path / "model.safetensors", {"format": "pt"})
    theirs, report = UnlimitedOcrForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    batch = page_batch(model, ["128", "96+64"], [(90, 200), (300, 200)], seed=1)
    with torch.no_grad():
        expected = their_logits(theirs.eval(), batch)
        ours = our_logits(module_of(after, found, IMAGE), batch)
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance(expected))


def test_a_model_with_fewer_heads_is_the_one_that_transformers_has_with_the_others_silent(peers: Any) -> None:
    """Of heads the release has no words for fewer than share out the width; but those that nothing is read from are none."""
    import copy

    from tests.train.model.peer_model import IMAGE, our_logits, page_batch, their_logits, tolerance
    from train.convert.names import to_ours
    from train.remake.weights import module_of

    theirs, values, model = peers
    silenced = copy.deepcopy(theirs)
    with torch.no_grad():
        for layer in silenced.model.language_model.layers:
            layer.self_attn.o_proj.weight.unflatten(1, (4, 16))[:, [0, 2]] = 0
    weights = to_ours(model, values)
    scores = by_magnitude(model, weights)
    scores.units["heads"] = {layer: torch.tensor([0.0, 1.0, 0.0, 1.0]) for layer in range(3)}
    found, after = prune(weights, model, SizesConfig(heads=2), scores)
    batch = page_batch(model, ["128"], [(90, 200), (300, 200)], seed=1)
    with torch.no_grad():
        expected = their_logits(silenced, batch)
        ours = our_logits(module_of(after, found, IMAGE), batch)
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance(expected))
