"""Which parameters decay, and which ones a rule for matrices takes."""

import torch

from train.config import OptimConfig
from train.optimizer import adamw, parameter_groups


def test_matrices_decay_and_vectors_do_not() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Conv2d(1, 2, 3))
    module[2].weight.requires_grad_(False)
    decayed, undecayed = parameter_groups(module, 0.1)
    assert [p.shape for p in decayed["params"]] == [(4, 3)] and decayed["weight_decay"] == 0.1
    assert len(undecayed["params"]) == 4 and undecayed["weight_decay"] == 0.0  # two biases and the norm's two vectors


def test_a_parameter_may_say_that_it_does_not_decay() -> None:
    """DoRA's magnitudes of experts have two axes, and are no matrix."""
    module = torch.nn.Linear(3, 4, bias=False)
    module.weight.decays = False  # type: ignore[assignment]
    for apart in (False, True):
        (group,) = parameter_groups(module, 0.1, hidden_apart=apart)
        assert (group["name"], group["weight_decay"]) == ("undecayed", 0.0)


def test_hidden_matrices_are_those_between_what_is_looked_up_and_what_is_answered() -> None:
    from parallel.topology import Topology, start, stop
    from tests.train.model.small_model import small_model
    from train.model.optical import build

    start(Topology(), seed=0)
    try:
        module = build(small_model(), 100)
    finally:
        stop()
    groups = {group["name"]: set(group["params"]) for group in parameter_groups(module, 0.1, hidden_apart=True)}
    names = {name for name, parameter in module.named_parameters() if parameter in groups["matrices"]}
    assert {
        "decoder.decoder.layers.1.mlp.experts.fc1", "decoder.decoder.layers.1.mlp.router.weight", "encoder.projector.weight",
        "decoder.decoder.layers.0.self_attention.linear_qkv.weight", "encoder.window.blocks.0.attn.proj.weight",
    } <= names  # fmt: skip
    wrong = ("embed", "position", "rel_pos", "output_layer", "glyph", "conv", "norm", "bias", "newline", "separator")
    assert not [name for name in names if any(part in name for part in wrong)]
    assert sum(map(len, groups.values())) == len(list(module.parameters()))


def test_the_optimizer_steps_as_torchs_plain_adamw() -> None:
    """`fused` is another kernel, not another rule: 20 steps agree to fp32 rounding."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 50)) for _ in range(2))
    config = OptimConfig(lr=1e-2, betas=[0.9, 0.95], eps=1e-8)
    fused = adamw(config)([{"params": [ours], "weight_decay": 0.1}])
    plain = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, foreach=False)
    for _ in range(20):
        gradient = torch.randn(50)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        fused.step()
        plain.step()
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)
