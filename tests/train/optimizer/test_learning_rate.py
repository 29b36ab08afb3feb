"""Learning-rate schedules against torch's own."""

import pytest
import torch

from train.config import OptimConfig
from train.optimizer import learning_rate


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
