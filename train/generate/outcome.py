"""What became of a page, and the sum of that over all of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

SEPARATOR = "\n\n<--- Page Split --->\n"  # between the pages of a document, as in the release's files


@dataclass(frozen=True)
class Outcome:
    """One page. ended: the model ended the text by itself. cut: it was stopped at a limit; the text is kept.
    blank: there is nothing on the page. failed: it could not be read, and `reason` says why.
    """

    kind: Literal["ended", "cut", "blank", "failed"]
    text: str = ""
    tokens: int = 0
    reason: str = ""

    def fields(self) -> dict[str, Any]:
        """As JSON, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value or name in ("text", "kind")}


def outcome_of(values: dict[str, Any]) -> Outcome:
    """What `fields` gave, among other values. Raises KeyError, TypeError for anything else."""
    known = {item.name for item in fields(Outcome)}
    return Outcome(**{"kind": values["kind"]} | {name: values[name] for name in known & set(values)})


def markdown(pages: Sequence[int], outcomes: Sequence[Outcome]) -> str:
    """The text of a document. In the place of a page that failed stands a comment that says so."""
    texts = [
        f"<!-- page {page} was not read: {outcome.reason.replace('--', '- -')} -->"
        if outcome.kind == "failed"
        else outcome.text.rstrip()
        for page, outcome in zip(pages, outcomes, strict=True)
    ]
    return SEPARATOR.join(texts) + "\n"


@dataclass
class Tally:
    """How many pages became what, in how many seconds of reading, with how many tokens written by the model."""

    ended: int = 0
    cut: int = 0
    blank: int = 0
    failed: int = 0
    kept: int = 0  # read by an earlier call
    tokens: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Counts a page."""
        setattr(self, outcome.kind, getattr(self, outcome.kind) + 1)
        self.tokens += outcome.tokens

    def __add__(self, other: "Tally") -> "Tally":
        """Of processes that worked side by side."""
        sums = {item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(Tally)}
        return Tally(**sums | {"seconds": max(self.seconds, other.seconds)})

    def __str__(self) -> str:
        speed = f", {self.tokens / self.seconds:.0f} tokens/s" if self.tokens and self.seconds else ""
        parts = {
            "ended by itself" if self.ended == 1 else "ended by themselves": self.ended,
            "cut at the limit": self.cut,
            "blank": self.blank,
            "failed": self.failed,
            "read before": self.kept,
        }
        total = sum(parts.values())
        shown = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
        return f"{total} page{'s' * (total != 1)} in {self.seconds:.1f} s{speed}: {shown}"
