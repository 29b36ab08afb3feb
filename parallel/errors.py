"""What `parallel` refuses, as exceptions whose message is meant for a person and printed without a traceback."""


class ParallelError(Exception):
    """Base of the errors of this package. The command line prints the message alone and exits with code 2."""

    user_error = True


class UnsupportedLayout(ParallelError):
    """A combination of sizes and options that cannot work; the message names the nearest valid choice."""

    same_everywhere = True  # every rank finds it: the first one tells it for all


class CheckpointError(ParallelError):
    """A checkpoint that is missing, damaged, or does not fit the model; the message names the file or the key."""


class MissingGradient(ParallelError):
    """A trainable parameter got no gradient in a step; ZeRO would update it wrongly without a word."""

    same_everywhere = True
