"""What a configuration can have wrong with it."""


class ConfigError(Exception):
    """A setting that is unknown, mistyped or impossible. The message names the override to use and is printed
    alone; exit code 2.
    """

    user_error = True
    same_everywhere = True  # every process finds it, so that the first one tells it for all
