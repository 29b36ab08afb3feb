"""How text is chosen. Loads no torch: commands check their settings with this."""

from dataclasses import dataclass

from conf.errors import ConfigError

CACHES = ("auto", "bf16", "int8")
SPECULATIONS = ("none", "lookup", "draft")


@dataclass(frozen=True)
class NoRepeat:
    """No `size` ids in a row are written twice within the last `window` ids of a text; ids in `allowed` always may be.

    DeepSeek-OCR's rule against loops: 30 in 90 for pictures, 20 in 50 for PDFs, the ids of <td> and </td> allowed.
    Only what the model wrote counts, not the prompt. Raises ConfigError for sizes by which nothing could be refused.
    """

    size: int
    window: int
    allowed: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ConfigError(f"no_repeat.size={self.size}: must be 2 or more ids in a row")
        if self.window < self.size:
            raise ConfigError(
                f"no_repeat.window={self.window}: shorter than no_repeat.size={self.size}, so nothing would ever be "
                f"refused; choose no_repeat.window={3 * self.size}"
            )


@dataclass(frozen=True)
class Decoding:
    """Greedy by default. Raises ConfigError for impossible values.

    With a temperature, a row draws from its own stream of random numbers, made from `seed` and the row's key: its text
    does not depend on the rows beside it. Speculation changes how fast a text comes, never the text.
    """

    max_new_tokens: int
    temperature: float = 0.0  # 0: the likeliest id
    top_p: float = 1.0  # draw from the fewest ids that have this probability together
    seed: int = 0
    no_repeat: NoRepeat | None = None
    cache: str = "auto"  # format of keys and values: "auto" (the weights') | "bf16" | "int8"
    speculate: str = (
        "none"  # who proposes ids: "none" | "lookup" (the text so far) | "draft" (a smaller model)
    )

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={self.max_new_tokens}: must be 1 or more")
        if not 0.0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature={self.temperature}: must be 0 (the likeliest id) or more")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p={self.top_p}: must be above 0 and at most 1")
        for name, value, choices in (
            ("cache", self.cache, CACHES),
            ("speculate", self.speculate, SPECULATIONS),
        ):
            if value not in choices:
                raise ConfigError(f"{name}={value}: choose one of {', '.join(choices)}")
