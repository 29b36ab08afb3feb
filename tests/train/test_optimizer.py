"""Learning-rate schedules against torch's own, and who decays."""

import pytest
import torch

from train.config import OptimConfig
from train.optimizer import adamw, learning_rate, parameter_groups


def rates(config: OptimConfig, steps: int) -> list[float]:
    return [learning_rate(config, step, steps) for step in range(steps)]


def of_torch(make: object, lr: float, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)  # type: ignore[operator]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_equals_torchs() -> None:
    config = OptimConfig(lr=3e-3, warmup_steps=0, schedule="cosine", final_fraction=0.1)
    theirs = of_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=40, eta_min=3e-4), 3e-3, 40)
    assert rates(config, 40) == pytest.approx(theirs, rel=1e-9)


def test_step_equals_torchs_multistep() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=0, schedule="step", step_milestones=[0.5, 0.75], step_factor=0.1)
    theirs = of_torch(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [20, 30], gamma=0.1), 1.0, 40)
    assert rates(config, 40) == pytest.approx(theirs, rel=1e-9)


def test_warm_up_is_linear_and_reaches_the_full_rate() -> None:
    config = OptimConfig(lr=2.0, warmup_steps=4, schedule="constant")
    assert rates(config, 6) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_matrices_decay_and_vectors_do_not() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Conv2d(1, 2, 3))
    module[2].weight.requires_grad_(False)
    decayed, undecayed = parameter_groups(module, 0.1)
    assert [p.shape for p in decayed["params"]] == [(4, 3)] and decayed["weight_decay"] == 0.1
    assert len(undecayed["params"]) == 4 and undecayed["weight_decay"] == 0.0  # two biases and the norm's two vectors


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
