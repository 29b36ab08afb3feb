"""Every metric that a run logs: its name, its unit, where a dashboard shows it, and what it says. Imports no torch.

The dashboard's panels and docs/metrics.md are made from this list, and tests hold it against the metrics that runs really log.
"""

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """name: as in metrics.jsonl; `*` stands for one source, group or layer. section: the group of panels that shows it. needs: what
    a run must have for it; "" where every run logs it.
    """

    name: str
    unit: str
    section: str
    meaning: str
    needs: str = ""

    def covers(self, name: str) -> bool:
        """Whether `name` is this metric, or one of its family."""
        return fnmatch.fnmatchcase(name, self.name)


CATALOGUE = (
    Metric("loss", "nats/token", "Loss", "Cross-entropy of the text's tokens, over the global batch"),
    Metric("objective", "nats/token", "Loss", "What was minimised: every loss with its weight"),
    Metric("loss/*", "nats/token", "Loss", "Cross-entropy of the samples of one kind", "logger.details_every > 0"),
    Metric("loss_at/*", "nats/token", "Loss", "Of the samples with so many text tokens a vision token, or without a page", "logger.details_every > 0"),
    Metric("patch_glyphs", "nats/cell", "Loss", "Glyph map, predicted from patches of the windowed branch", "stage.objective.patch_glyphs > 0"),
    Metric("token_glyphs", "nats/cell", "Loss", "Glyph map, predicted from vision tokens", "stage.objective.token_glyphs > 0"),
    Metric("divergence", "nats/token", "Loss", "Between the teacher's predictions and the student's", "distill=logits"),
    Metric("hidden", "", "Loss", "Distance of the last hidden states from the teacher's", "distill=features"),
    Metric("features", "", "Loss", "Distance of the vision tokens from the teacher's", "distill=features"),
    Metric("image_gain", "nats/token", "Reading", "Cross-entropy with another page's picture minus with the right one: zero is guessing", "pages in data.held_out"),
    Metric("image_gain/*", "nats/token", "Reading", "The same of one held-out source", "pages in data.held_out"),
    Metric("accuracy/*", "", "Reading", "Held-out tokens that are predicted rightly, with the text before them given", "data.held_out"),
    Metric("cross_entropy/*", "nats/token", "Reading", "On held-out pages of one source", "data.held_out"),
    Metric("cross_entropy_shuffled/*", "nats/token", "Reading", "The same with another page's picture", "pages in data.held_out"),
    Metric("precision/*", "", "Reading", "Of a few held-out pages that are read while training (logger.samples): 1 is perfect", "logger.samples > 0"),
    Metric("edit_distance/*", "", "Reading", "The same as the normalised edit distance: 0 is perfect", "logger.samples > 0"),
    Metric("grad_norm/*", "", "Optimization", "Of the gradients of one part of the model, before clipping", "a step that logger.details_every names"),
    Metric("update_ratio/*", "", "Optimization", "Norm of what the step added to one part's weights, over theirs", "a step that logger.details_every names"),
    Metric("lr", "", "Optimization", "Learning rate"),
    Metric("grad_norm", "", "Optimization", "Of all gradients, before clipping"),
    Metric("skipped", "", "Optimization", "Whether the step changed nothing"),
    Metric("balance_loss", "", "Experts", "Of the routers, mean over layers, before its weight: 1 is even", "a model with experts"),
    Metric("expert_load/*", "", "Experts", "Tokens of the busiest expert of a layer over the mean: 1 is even", "a model with experts"),
    Metric("expert_entropy/*", "nats", "Experts", "Of a layer's router, mean over tokens: how undecided it is", "a model with experts"),
    Metric("expert_dead/*", "experts", "Experts", "Of a layer, without any token in the last five looks", "a model with experts"),
    Metric("tokens", "tokens", "Progress", "Text tokens since the stage began"),
    Metric("pages", "pages", "Progress", "Pages since the stage began"),
    Metric("level", "", "Progress", "Of the curriculum"),
    Metric("batch", "", "Progress", "Number of the global batch's samples: equal in all layouts"),
    Metric("seconds", "s", "Throughput", "Of the step"),
    Metric("data_wait", "s", "Throughput", "Of the step, for data, on rank 0"),
    Metric("data_wait_share", "", "Throughput", "Of the last steps, for data: mean of all ranks"),
    Metric("data_wait_share_worst", "", "Throughput", "The same of the rank that waits most"),
    Metric("tokens_per_second", "tokens/s", "Throughput", "Text tokens"),
    Metric("pages_per_second", "pages/s", "Throughput", "Pages"),
    Metric("vision_tokens_per_second", "tokens/s", "Throughput", "Positions that pages take in the decoder"),
    Metric("tokens_per_second_per_device", "tokens/s", "Throughput", "Vision and text tokens, a device"),
    Metric("multimodal_tokens_per_day", "tokens/day", "Throughput", "Vision and text tokens, all devices; the paper's: 70e9"),
    Metric("mfu", "", "Throughput", "Model FLOPs of the last steps over the devices' peak; on GPUs of conf/device", "a GPU of conf/device"),
    Metric("bubble", "", "Throughput", "Of a pipeline's schedule, in which ranks do not compute: mean of all", "a pipeline (parallel.pipeline)"),
    Metric("straggler", "", "Throughput", "Computing time of the slowest rank over the median of those with the same work", "several ranks with the same work"),
    Metric("memory/host", "GiB", "Memory", "Of the process that has most, data workers left out"),
    Metric("memory/allocated", "GiB", "Memory", "Tensors on the fullest GPU", "a GPU"),
    Metric("memory/reserved", "GiB", "Memory", "What torch keeps for tensors, on the fullest GPU", "a GPU"),
    Metric("memory/peak", "GiB", "Memory", "Most tensors at once since the process began, on the fullest GPU", "a GPU"),
    Metric("skipped_total", "steps", "Health", "That changed nothing, since the stage began"),
    Metric("spikes_total", "steps", "Health", "That stood out, since the stage began"),
    Metric("spike/loss", "deviations", "Health", "Of the objective, above the mean of the last steps: see guard.spike_sigmas", "guard.spike_sigmas, and steps enough"),
    Metric("spike/grad_norm", "deviations", "Health", "Of the gradient's norm, above the mean of the last steps", "guard.spike_sigmas, and steps enough"),
    Metric("goodput", "", "Health", "Seconds in steps that count over seconds since the run first began, restarts included"),
    Metric("restarts", "", "Health", "How often the run was started again"),
    Metric("lost_steps", "steps", "Health", "Done twice, for want of a checkpoint"),
    Metric("checkpoint_age", "s", "Health", "Since the last checkpoint was whole, or since the process began"),
    Metric("save_seconds", "s", "Health", "Of the last checkpoint, until it was whole", "a checkpoint"),
    Metric("save_blocked", "s", "Health", "Of them, that training waited", "a checkpoint"),
    Metric("bad_samples", "samples", "Health", "That could not be used, since the stage began"),
    Metric("epoch", "", "Health", "How often the source was read that was read most"),
    Metric("weight_magnitude/*", "", "Weights", "How far the lengths of a weight's rows have moved", "stage.weight_decomposition.every > 0"),
    Metric("weight_direction/*", "", "Weights", "How far their directions have", "stage.weight_decomposition.every > 0"),
    Metric("weight_correlation/*", "", "Weights", "Between both", "stage.weight_decomposition.every > 0"),
)  # fmt: skip


def metric_of(name: str) -> Metric | None:
    """The entry that describes a logged metric; None for a name that nobody has entered."""
    return next((metric for metric in CATALOGUE if metric.covers(name)), None)
