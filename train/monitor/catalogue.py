"""Every metric that a run logs: its name, its unit, where a dashboard shows it, and what it says. Imports no torch.

The dashboard's panels and docs/metrics.md are made from this list, and tests hold it against the metrics that runs really log.
"""

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """name: as in metrics.jsonl; `*` stands for one source, group or layer. section: the group of panels that shows it."""

    name: str
    unit: str
    section: str
    meaning: str

    def covers(self, name: str) -> bool:
        """Whether `name` is this metric, or one of its family."""
        return fnmatch.fnmatchcase(name, self.name)


CATALOGUE = (
    Metric("loss", "nats/token", "Loss", "Cross-entropy of the text's tokens, over the global batch"),
    Metric("objective", "nats/token", "Loss", "What was minimised: every loss with its weight"),
    Metric("patch_glyphs", "nats/cell", "Loss", "Glyph map, predicted from patches of the windowed branch"),
    Metric("token_glyphs", "nats/cell", "Loss", "Glyph map, predicted from vision tokens"),
    Metric("divergence", "nats/token", "Loss", "Between the teacher's predictions and the student's"),
    Metric("hidden", "", "Loss", "Distance of the last hidden states from the teacher's"),
    Metric("features", "", "Loss", "Distance of the vision tokens from the teacher's"),
    Metric("image_gain", "nats/token", "Reading", "Cross-entropy with another page's picture minus with the right one: zero is guessing"),
    Metric("image_gain/*", "nats/token", "Reading", "The same of one held-out source"),
    Metric("accuracy/*", "", "Reading", "Held-out tokens that are predicted rightly, with the text before them given"),
    Metric("cross_entropy/*", "nats/token", "Reading", "On held-out pages of one source"),
    Metric("cross_entropy_shuffled/*", "nats/token", "Reading", "The same with another page's picture"),
    Metric("lr", "", "Optimization", "Learning rate"),
    Metric("grad_norm", "", "Optimization", "Of all gradients, before clipping"),
    Metric("skipped", "", "Optimization", "Whether the step changed nothing"),
    Metric("skipped_total", "steps", "Health", "That changed nothing, since the stage began"),
    Metric("spikes_total", "steps", "Health", "That stood out, since the stage began"),
    Metric("spike/loss", "deviations", "Health", "Of the objective, above the mean of the last steps: see guard.spike_sigmas"),
    Metric("spike/grad_norm", "deviations", "Health", "Of the gradient's norm, above the mean of the last steps"),
    Metric("tokens", "tokens", "Progress", "Text tokens since the stage began"),
    Metric("pages", "pages", "Progress", "Pages since the stage began"),
    Metric("level", "", "Progress", "Of the curriculum"),
    Metric("batch", "", "Progress", "Number of the global batch's samples: equal in all layouts"),
    Metric("seconds", "s", "Throughput", "Of the step"),
    Metric("data_wait", "s", "Throughput", "Of the step, for data, on rank 0"),
    Metric("tokens_per_second", "tokens/s", "Throughput", "Text tokens"),
    Metric("pages_per_second", "pages/s", "Throughput", "Pages"),
    Metric("weight_magnitude/*", "", "Weights", "How far the lengths of a weight's rows have moved"),
    Metric("weight_direction/*", "", "Weights", "How far their directions have"),
    Metric("weight_correlation/*", "", "Weights", "Between both"),
)  # fmt: skip


def metric_of(name: str) -> Metric | None:
    """The entry that describes a logged metric; None for a name that nobody has entered."""
    return next((metric for metric in CATALOGUE if metric.covers(name)), None)
