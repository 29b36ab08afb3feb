"""What is minimised: the next token of the text, and while the encoder is young the map of glyphs on the page.

Shapes: B rows, L positions, V views, G glyph cells a side, C glyph classes.

A model of this kind can lower its loss for a long time without ever looking at the page: it becomes a language model.
The glyph map ends that: the renderer knows which character covers each cell, and two small heads must say it, one from
the patches of the window branch, one from the vision tokens. The heads are dropped at export; weight 0 switches a map off.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from data_pipeline.batch import MicroBatch
from data_pipeline.record import IGNORE_GLYPH
from parallel.layers import NO_LABEL, Asked
from parallel.pipeline import StageOutput
from train.model.optical import ModelOutput
from train.objective.strata import NAME as STRATA
from train.objective.strata import no_strata, strata_sums


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of the next token plus the weighted cross-entropies of the two glyph maps.

    patch_glyphs, token_glyphs: weights of the maps read off patches and off vision tokens; 0 leaves a map out.
    input_noise: share of the text tokens that the decoder is shown wrongly (`with_noise`). strata: also sum the cross-entropy
    of each sort of samples (`strata_sums`); it is minimised as ever.
    """

    patch_glyphs: float = 0.0
    token_glyphs: float = 0.0
    input_noise: float = 0.0
    strata: bool = False

    def __call__(
        self, module: torch.nn.Module, batch: MicroBatch, normalizers: Mapping[str, float]
    ) -> StageOutput:
        """The losses that arise in this piece of the model, and sums for the log: "loss" over tokens, each glyph map over
        cells, in nats; 0 for what another piece counts.

        `normalizers`: what one unit of each weight counts ("tokens", "cells"), as the engine hands it out, so that the
        gradient is that of the mean over the whole step however it is cut into micro-batches, pieces and ranks.
        """
        shown = with_noise(batch, self.input_noise)
        if self.strata:
            asked = Asked(batch.labels, each=True)
            output = module(shown, with_glyphs=self.with_glyphs, asked=asked)
            nats, each = (None, None) if output.labelled is None else (output.labelled.loss, output.labelled.each)
        else:
            output = module(shown, with_glyphs=self.with_glyphs, with_nats=True)
            nats, each = output.nats, None
        loss = torch.zeros((), device=batch.labels.device)
        sums = {"loss": loss}
        if nats is not None:
            loss, sums["loss"] = nats / normalizers["tokens"], nats.detach()
        return self.with_maps(loss, sums | self.apart(batch, each), output, batch, normalizers)

    def apart(self, batch: MicroBatch, each: Tensor | None) -> dict[str, Tensor]:
        """The sums of the strata, where they are asked for. each: nats of every position, None where they do not arise here."""
        if not self.strata:
            return {}
        return {STRATA: no_strata(batch) if each is None else strata_sums(each, batch)}

    @property
    def with_glyphs(self) -> bool:
        """Whether any map is asked for."""
        return self.patch_glyphs > 0 or self.token_glyphs > 0

    def with_maps(
        self,
        loss: Tensor,
        sums: dict[str, Tensor],
        output: ModelOutput,
        batch: MicroBatch,
        normalizers: Mapping[str, float],
    ) -> StageOutput:
        """The loss and the sums so far, and the maps' part."""
        for name, weight, logits in (
            ("patch_glyphs", self.patch_glyphs, output.patch_glyphs),
            ("token_glyphs", self.token_glyphs, output.token_glyphs),
        ):
            if weight > 0:
                sums[name] = torch.zeros_like(loss)
            if weight > 0 and logits is not None:
                cells = glyph_cross_entropy(logits, batch)
                loss = loss + weight * cells / max(normalizers["cells"], 1.0)
                sums[name] = cells.detach()
        return StageOutput(output.hidden, loss, sums)


def with_noise(batch: MicroBatch, share: float) -> MicroBatch:
    """The batch with `share` of each sample's text replaced, in the input, by other tokens of that text; labels stay.

    A reader that was only ever shown right letters finds its place by the last ones it read, and loses it for good at its
    first mistake. What is replaced is a function of the sample's key alone: the same in every layout, after every restart,
    and whatever shares its row.
    """
    if not share:
        return batch
    tokens, labels = batch.tokens.flatten().clone(), batch.labels.flatten()
    for key, begin, end in _samples(batch):
        # where the labels stand as input
        text = begin + 1 + torch.nonzero(labels[begin : end - 1] != NO_LABEL).flatten()
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        wrong = torch.rand(len(text), generator=generator) < share
        others = text[torch.randperm(len(text), generator=generator)]
        tokens[text] = torch.where(wrong.to(tokens.device), tokens[others], tokens[text])
    return replace(batch, tokens=tokens.view_as(batch.tokens))


def _samples(batch: MicroBatch) -> Iterator[tuple[str, int, int]]:
    """Key, first position and end of each sample, in the rows laid end to end."""
    rows, length = batch.tokens.shape
    bounds = [row * length for row in range(rows + 1)] if batch.bounds is None else batch.bounds.tolist()
    number = 0
    for row, keys in enumerate(batch.keys):
        for key in keys.split(" "):
            yield key, bounds[number], bounds[number + 1]
            number += 1
        number += bounds[number] < (row + 1) * length  # what fills up the row


def glyph_cross_entropy(maps: Sequence[Tensor], batch: MicroBatch) -> Tensor:
    """Sum over the known cells of all pages, in nats. maps: of each stack, logits [V, G, G, C]; classes beyond C share
    the last one.
    """
    if batch.glyphs is None:
        # every head gets a gradient on every rank, pages or not
        return torch.stack([logits.sum() * 0.0 for logits in maps]).sum()
    losses = [_stack_cross_entropy(logits, glyphs) for logits, glyphs in zip(maps, batch.glyphs, strict=True)]
    return torch.stack(losses).sum()


def _stack_cross_entropy(logits: Tensor, glyphs: Tensor) -> Tensor:
    labels = glyphs.long()
    labels = torch.where(labels == IGNORE_GLYPH, NO_LABEL, labels.clamp(max=logits.shape[-1] - 1))
    return F.cross_entropy(logits.float().flatten(0, 2), labels.flatten(), ignore_index=NO_LABEL, reduction="sum")
