"""The model side of the command: pages in, texts out, on one process or on tensor ranks that follow the first one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from conf.errors import ConfigError
from data_pipeline.batch import prompt_batch
from data_pipeline.errors import DataError, UserError
from data_pipeline.resolution import grid_of, positions
from data_pipeline.tokenizer import Tokenizer
from train.generate.config import GenerateConfig, decoding_of
from train.generate.decoding import Reading, decode, key_of, read
from train.generate.outcome import Outcome, Tally
from train.generate.prompt import default_prompt, written_prompt

if TYPE_CHECKING:
    from train.generate.team import Team
    from train.load import Trained
    from train.model.optical import OpticalModel

BROKEN = "\ufffd"  # the end of a text whose last character is not complete yet


class Reader:
    """A trained model, what it is asked, and how its text is chosen.

    On the first of some tensor ranks, `read` and `stream` make the others read, too, which are in `follow` until
    `dismiss`.
    """

    def __init__(
        self, trained: "Trained", config: GenerateConfig, team: "Team", draft: "Trained | None" = None
    ) -> None:
        self.trained, self.config, self.team = trained, config, team
        self.prompt = default_prompt(trained) if config.prompt is None else written_prompt(config.prompt)
        mode = trained.spec.modes[0] if config.mode is None else config.mode
        self.spec = replace(trained.spec, modes=(mode,))
        self.decoding = decoding_of(config, self.spec.max_length, _ids(config, trained.tokenizer))
        self.draft = draft
        self._asked = len(trained.tokenizer.encode(self.prompt))
        self._check()

    def settings(self) -> dict[str, Any]:
        """What decides the text of a page besides the page: plain values by name."""
        config = self.config
        names = (
            "dpi",
            "max_new_tokens",
            "temperature",
            "top_p",
            "seed",
            "no_repeat",
            "no_repeat_allowed",
            "cache",
        )
        model = {"checkpoint": str(self.trained.run_folder.resolve()), "step": self.trained.step}
        asked = {"prompt": self.prompt, "mode": self.spec.modes[0]}
        return model | asked | {name: getattr(config, name) for name in names}

    def length(self, page: np.ndarray) -> int:
        """Positions that a page and the prompt take. Raises DataError where they leave no room for a text."""
        mode = self.spec.parsed[0]
        height, width = page.shape[:2]
        shown = positions(mode, self.spec.patch, grid_of(width, height, mode))
        taken = self.spec.reserved + 1 + shown + self._asked
        if taken >= self.spec.max_length:
            raise DataError(
                f"takes {taken} positions as mode={self.spec.modes[0]}, of {self.spec.max_length} that the model has: "
                "choose a smaller mode=, or cut it into pages"
            )
        return taken

    def read(self, pages: Sequence[np.ndarray]) -> list[Outcome]:
        """What became of some pages, read together."""
        self.team.tell_followers(pages)
        found = zip(pages, self._read(pages), strict=True)
        return [self._outcome(page, item.text, item.finished, item.tokens) for page, item in found]

    def stream(self, page: np.ndarray) -> Iterator[str | Outcome]:
        """The text of one page in pieces, as it is decoded; then what became of it. A character is held back until all
        its bytes are there.
        """
        self.team.tell_followers([page])
        tokenizer = self.trained.tokenizer
        ids, waiting = list[int](), list[int]()
        for (new,) in self._decode(page):
            ids += new
            waiting += new
            text = tokenizer.decode(waiting)
            if text and not text.endswith(BROKEN):
                waiting = []
                yield text
        if rest := tokenizer.decode(waiting):
            yield rest
        yield self._outcome(page, tokenizer.decode(ids), tokenizer.eos in ids, len(ids))

    def follow(self) -> Tally:
        """On a tensor rank that is not the first: reads along, and drops the texts. Counts nothing."""
        while (pages := self.team.told()) is not None:
            self._read(pages)
        return Tally()

    def dismiss(self) -> None:
        """Ends `follow` on the other tensor ranks."""
        self.team.tell_followers(None)

    def _read(self, pages: Sequence[np.ndarray]) -> list[Reading]:
        trained = self.trained
        try:
            return read(
                trained.model, trained.tokenizer, pages, self.prompt, self.spec, self.decoding, len(pages),
                draft=self._drafting,
            )  # fmt: skip
        except torch.OutOfMemoryError:
            raise UserError(
                f"batch_size={self.config.batch_size}: {len(pages)} pages at once do not fit into the device's memory; "
                f"choose batch_size={max(1, len(pages) // 2)}, a smaller max_new_tokens=, or cache=int8"
            ) from None

    def _decode(self, page: np.ndarray) -> Iterator[list[list[int]]]:
        """As `_read` decodes this page."""
        trained = self.trained
        batch = prompt_batch([page], self.prompt, trained.tokenizer, self.spec)
        batch = replace(batch, keys=[key_of(page)]).to(next(trained.model.parameters()).device)
        limit = min(self.config.max_new_tokens, self.spec.max_length - batch.tokens.shape[1])
        decoding = replace(self.decoding, max_new_tokens=limit)
        return decode(trained.model, batch, trained.tokenizer, decoding, self._drafting)

    @property
    def _drafting(self) -> "OpticalModel | None":
        return self.draft.model if self.draft else None

    def _outcome(self, page: np.ndarray, text: str, finished: bool, tokens: int) -> Outcome:
        if finished:
            return Outcome("ended", text, tokens)
        limit, room = self.config.max_new_tokens, self.spec.max_length - self.length(page)
        reason = (
            f"max_new_tokens={limit}"
            if limit <= room
            else f"the {self.spec.max_length} positions of the model"
        )
        advice = "; if it repeats itself, no_repeat=pdf ends that" if self.config.no_repeat == "none" else ""
        more = "; a larger max_new_tokens= lets it go on" if limit < room else ""
        return Outcome(
            "cut", text, tokens, f"has no end within {reason}; what was read so far is kept{more}{advice}"
        )

    def _check(self) -> None:
        if self.spec.texts:
            raise UserError(
                f"checkpoint={self.config.checkpoint}: this model compresses texts, not pages of them; it cannot read any"
            )
        for size in self.spec.sizes:
            if size % (4 * self.spec.patch):
                raise ConfigError(
                    f"mode={self.spec.modes[0]}: {size} pixels are no multiple of {4 * self.spec.patch}, four patches of "
                    "this model"
                )
        if self.draft and self.draft.spec.reserved != self.spec.reserved:
            raise UserError(
                f"draft={self.config.draft}: a learned prompt of {self.draft.spec.reserved} positions stands before its "
                f"pages, {self.spec.reserved} before those of checkpoint={self.config.checkpoint}; both must have as many"
            )
        if self.draft and self.draft.tokenizer.digest != self.trained.tokenizer.digest:
            raise UserError(
                f"draft={self.config.draft}: has another tokenizer than checkpoint={self.config.checkpoint}; both must "
                "have the same"
            )


def _ids(config: GenerateConfig, tokenizer: Tokenizer) -> frozenset[int]:
    found = set()
    for text in config.no_repeat_allowed:
        ids = tokenizer.encode(text)
        if len(ids) != 1:
            raise ConfigError(
                f"no_repeat_allowed: {text!r} is {len(ids)} tokens of this model, and only single ones can be allowed"
            )
        found.add(ids[0])
    return frozenset(found)


def load_draft(config: GenerateConfig, sizes: Any) -> "Trained | None":
    """The smaller model of speculate=draft."""
    from train.load import load_trained

    return load_trained(Path(config.draft), sizes, "draft") if config.draft else None
