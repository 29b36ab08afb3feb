"""What pages do in the model, as transformers' model shows it: taken there by hooks of the test, position by position."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.surgery.small import apart
from train.config import ModelConfig
from train.surgery.calibration import importance_of, look
from train.surgery.config import SizesConfig
from train.surgery.importance import Importance
from train.surgery.prune import prune

ROUNDING = {"rtol": 2e-5, "atol": 1e-7}
Read = dict[str, list[Tensor]]


@pytest.fixture(scope="module")
def batch() -> Any:
    """Rows of different lengths: padding stands behind all but one."""
    from tests.train.model.peer_model import page_batch, peer_size

    made = page_batch(peer_size(), ["128", "96+64"], [(90, 200), (300, 200), (120, 120)], seed=1)
    assert made.padding.any()
    return made


@pytest.fixture(scope="module")
def weights(peers: Any) -> dict[str, Tensor]:
    from train.convert.names import to_ours

    _, values, model = peers
    return to_ours(model, values)


@pytest.fixture(scope="module")
def found(peers: Any, weights: dict[str, Tensor], batch: Any) -> Importance:
    from tests.train.model.peer_model import IMAGE
    from train.remake.weights import module_of

    model: ModelConfig = peers[2]
    return importance_of(model, weights, look(module_of(model, weights, IMAGE), [batch]))


@contextmanager
def inputs_of(modules: dict[str, torch.nn.Module]) -> Iterator[Read]:
    """All that modules read, [positions, features] of each call."""
    read: Read = {name: [] for name in modules}

    def keep(name: str) -> Any:
        return lambda _, args: read[name].append(args[0].detach().flatten(0, -2))

    handles = [module.register_forward_pre_hook(keep(name)) for name, module in modules.items()]
    yield read
    for handle in handles:
        handle.remove()


@pytest.fixture(scope="module")
def read(peers: Any, batch: Any) -> dict[str, Tensor]:
    """What parts of their model read of the same pages: every row alone, without padding."""
    from tests.train.model.peer_model import their_logits

    theirs = peers[0]
    layers, clip = theirs.model.language_model.layers, theirs.model.vision_tower.vision_encoder.encoder.layers
    modules = {f"layer {number}": layer for number, layer in enumerate(layers)}
    modules |= {f"heads {number}": layer.self_attn.o_proj for number, layer in enumerate(layers)}
    modules |= {
        "ffn": layers[0].mlp.down_proj,
        "mixture": layers[1].mlp,
        "final": theirs.model.language_model.norm,
    }
    modules |= {"shared": layers[2].mlp.shared_experts.down_proj, "global": clip[1].mlp.fc2}
    with torch.no_grad(), inputs_of(modules) as kept:
        their_logits(theirs, batch)
    return {name: torch.cat(parts) for name, parts in kept.items()}


def test_layers_by_how_far_they_turn_what_they_read(found: Importance, read: dict[str, Tensor]) -> None:
    stream = [*(read[f"layer {number}"] for number in range(3)), read["final"]]
    for number, score in enumerate(found.layers["layers"]):
        cosines = [
            torch.dot(x, y) / (x.norm() * y.norm()) for x, y in zip(stream[number], stream[number + 1])
        ]
        assert score.item() == pytest.approx(1 - sum(cosines).item() / len(cosines), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "layer"), [("ffn", "ffn", 0), ("shared", "shared", 2), ("global", "global_mlp", 1)]
)
def test_features_by_what_they_add(
    found: Importance, read: dict[str, Tensor], weights: dict[str, Tensor], name: str, kind: str, layer: int
) -> None:
    key = {
        "ffn": "decoder.decoder.layers.0.mlp.linear_fc2.weight",
        "shared": "decoder.decoder.layers.2.mlp.shared_experts.linear_fc2.weight",
        "global": "encoder.global.layers.1.fc2.weight",
    }[name]
    expected = (read[name].square().mean(0) * weights[key].square().sum(0)).sqrt()
    torch.testing.assert_close(found.units[kind][layer].float(), expected, **ROUNDING)


def test_heads_by_what_they_add(
    found: Importance, read: dict[str, Tensor], weights: dict[str, Tensor]
) -> None:
    for layer in range(3):
        matrix = weights[f"decoder.decoder.layers.{layer}.self_attention.linear_proj.weight"]
        for head, score in enumerate(found.units["heads"][layer]):
            columns = slice(16 * head, 16 * head + 16)
            added = read[f"heads {layer}"][:, columns] @ matrix[:, columns].t()
            assert score.item() == pytest.approx(added.square().sum(1).mean().sqrt().item(), rel=1e-4)


def test_experts_by_routed_weight_times_output(
    found: Importance, read: dict[str, Tensor], peers: Any
) -> None:
    """From the released tensors: every expert of every token, weighed as the router says, zero where it is not chosen."""
    values, model = peers[1], peers[2]
    prefix, x = "model.layers.1.mlp.", read["mixture"]
    scores = (x @ values[f"{prefix}gate.weight"].t()).softmax(-1)
    chosen = torch.zeros_like(scores).scatter_(1, scores.topk(model.decoder.experts_per_token).indices, 1.0)
    for expert in range(model.decoder.experts):
        gate, up, down = (
            values[f"{prefix}experts.{expert}.{kind}_proj.weight"] for kind in ("gate", "up", "down")
        )
        features = torch.nn.functional.silu(x @ gate.t()) * (x @ up.t()) * (scores * chosen)[:, expert, None]
        lengths = (features @ down.t()).norm(dim=1).mean()
        assert found.units["experts"][1][expert].item() == pytest.approx(lengths.item(), rel=1e-4)
        by_feature = (features.square().mean(0) * down.square().sum(0)).sqrt()
        torch.testing.assert_close(found.units["expert_ffn"][1][expert].float(), by_feature, **ROUNDING)


def test_features_of_the_width_before_the_norms(found: Importance, read: dict[str, Tensor]) -> None:
    power = found.power["decoder.decoder.final_layernorm.weight"]
    torch.testing.assert_close(power.float(), read["final"].square().mean(0), **ROUNDING)


def test_what_pages_do_decides_where_the_weights_say_nothing(
    peers: Any, weights: dict[str, Tensor], batch: Any
) -> None:
    """Hidden features of large weights that no page moves, for their gate is shut: activations know it, magnitudes do not."""
    from tests.train.model.peer_model import IMAGE, our_logits
    from train.remake.weights import module_of
    from train.surgery.importance import by_magnitude

    model = peers[2]
    shut = dict(weights)
    key, other = (f"decoder.decoder.layers.0.mlp.linear_fc{number}.weight" for number in (1, 2))
    shut[key] = weights[key].clone()
    shut[key][:96][10:50] *= 1e-6  # gates
    shut[other] = weights[other] * torch.where((torch.arange(96) >= 10) & (torch.arange(96) < 50), 10.0, 1.0)

    def logits(importance: Importance) -> dict[str, Tensor]:
        found, after = prune(shut, model, SizesConfig(ffn=56), importance)
        with torch.no_grad():
            return {"logits": our_logits(module_of(after, found, IMAGE), batch)}

    seen = importance_of(model, shut, look(module_of(model, shut, IMAGE), [batch]))
    with torch.no_grad():
        whole = {"logits": our_logits(module_of(model, shut, IMAGE), batch)}
    assert apart(whole, logits(seen)) < 1e-4 < 100 * 1e-4 < apart(whole, logits(by_magnitude(model, shut)))
