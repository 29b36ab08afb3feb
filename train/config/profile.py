"""Which steps are recorded operation by operation."""

from dataclasses import dataclass, field


@dataclass
class ProfileConfig:
    """A torch.profiler trace, a table of operators and a memory snapshot in the run's folder; nothing without `steps`."""

    steps: list[int] = field(default_factory=list)  # first and last step that is recorded, such as [10,12]
    ranks: list[int] = field(default_factory=lambda: [0])  # processes that record themselves
