"""Samples that cannot be used: counted, named, and tolerated up to a ceiling."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.lines import Lines

_JUDGED_FROM = 200  # samples seen before a share means something ...
_TOO_MANY = 20  # ... unless there are already more bad ones than this


@dataclass(frozen=True)
class BadSample:
    """One sample that could not be used: where it is, the short reason it is counted under, and the whole
    story.
    """

    source: str
    shard: str
    key: str
    reason: str
    detail: str


class BadSamples:
    """Counts what this process has met, writes each to `log` (JSON lines), and stops when there are too many.

    max_bad_fraction: the share of samples seen that may be bad. A few more are let pass than the share alone
    would allow (three standard deviations), so that one early bad sample does not stop a run whose data are
    well within it; 0 tolerates none at all.
    """

    def __init__(self, max_bad_fraction: float, log: Path | None = None) -> None:
        if not 0 <= max_bad_fraction <= 1:
            raise DataError(f"data.max_bad_fraction={max_bad_fraction}: must be between 0 and 1")
        self.max_bad_fraction = max_bad_fraction
        self.log = log
        self._lines = Lines(log) if log else None
        self.seen = 0
        self._by_shard: Counter[tuple[str, str, str]] = Counter()
        self._example = ""

    def add(self, bad: Sequence[BadSample], seen: int) -> Counter[str]:
        """Take note of `seen` more samples, of which these are bad; how many by "source: reason".

        Raises DataError, naming shards and reasons, above the ceiling.
        """
        self.seen += seen
        self._by_shard.update((sample.source, sample.shard, sample.reason) for sample in bad)
        if bad:
            self._example = bad[-1].detail
        if bad and self._lines:
            self._lines.append(map(asdict, bad))
        count = self._by_shard.total()
        if count > self._allowed() and (
            self.seen >= _JUDGED_FROM or count > _TOO_MANY or not self.max_bad_fraction
        ):
            raise DataError(self._complaint(count))
        return Counter(f"{sample.source}: {sample.reason}" for sample in bad)

    def close(self) -> None:
        """Closes the log; `add` opens it again."""
        if self._lines:
            self._lines.close()

    def _allowed(self) -> float:
        expected = self.max_bad_fraction * self.seen
        return expected + 3 * expected**0.5 + 1 if self.max_bad_fraction else 0.0

    def _complaint(self, count: int) -> str:
        worst = [
            f"{source}/{shard} ({number} x {reason})"
            for (source, shard, reason), number in self._by_shard.most_common(5)
        ]
        more = f" and {len(self._by_shard) - 5} more" if len(self._by_shard) > 5 else ""
        where = f"; each is named in {self.log}" if self.log else ""
        return (
            f"{count} of {self.seen} samples could not be used, more than data.max_bad_fraction="
            f"{self.max_bad_fraction:g} allows: {', '.join(worst)}{more}{where}; the last: {self._example}. Check the shards with "
            f"`python -m data_pipeline.view FOLDER`, build them again, or raise data.max_bad_fraction="
        )
