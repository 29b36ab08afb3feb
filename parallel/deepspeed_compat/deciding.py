"""A say in whether a step is made, when the norm of its gradient is known and no weight has changed yet."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Each of their optimizers asks `is_invalid_grad_norm(norm)`, once before it changes anything, and throws the gradients away
# where the answer is yes.
_OPTIMIZERS = (
    "deepspeed.runtime.zero.stage_1_and_2",
    "deepspeed.runtime.zero.stage3",
    "deepspeed.runtime.bf16_optimizer",
)
_QUESTION = "is_invalid_grad_norm"


@contextmanager
def deciding(accepts: Callable[[float], bool]) -> Iterator[None]:
    """Inside, an optimizer whose gradient is finite asks `accepts(norm)`, once a step, and skips the step where it says no."""
    modules = [importlib.import_module(name) for name in _OPTIMIZERS]
    before = [getattr(module, _QUESTION) for module in modules]
    answers: list[bool] = []

    def is_refused(norm: Any) -> bool:
        if before[0](norm):
            return True
        if not answers:  # stage 2 asks again while it clips
            answers.append(accepts(float(norm)))
        return not answers[0]

    for module in modules:
        setattr(module, _QUESTION, is_refused)
    try:
        yield
    finally:
        for module, question in zip(modules, before):
            setattr(module, _QUESTION, question)
