"""The learning rate of every step."""

import math

from train.config import OptimConfig


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate of `step` (0-based) in a run of `steps`: a linear warm-up, then the schedule of `optim.schedule`.

    cosine: falls to `final_fraction` of the peak. step: times `step_factor` at every fraction of the run in
    `step_milestones` (DeepSeek-OCR's stage 2 uses this form). constant: stays.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    done = step / max(steps, 1)
    if config.schedule == "cosine":
        floor = config.final_fraction
        factor = floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    elif config.schedule == "step":
        factor = config.step_factor ** sum(done >= milestone for milestone in config.step_milestones)
    else:
        factor = 1.0
    return config.lr * warm * factor
