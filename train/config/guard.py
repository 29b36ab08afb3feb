"""What is done about steps that go wrong."""

from dataclasses import dataclass


@dataclass
class GuardConfig:
    """When a step is not made, or stands out, and when the run ends over it. Steps whose loss or gradient is not finite are
    never made.
    """

    max_skipped: int = 10  # steps in a row that are not made, after which the run ends with an error; 0: never
    spike_sigmas: float = 6.0  # a loss or gradient norm this many deviations above the mean of `window` steps is a spike; 0: none is
    window: int = 128  # steps; the first half of it never holds a spike, nor does that after a new level of the curriculum
    skip_spikes: bool = False  # steps with a spike are not made
