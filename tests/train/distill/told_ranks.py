"""What tensor ranks do for test_cache_teacher.py. Torch is imported inside: the ranks import this file before their environment
is complete.
"""

from typing import Any


def play(settings: dict[str, Any]) -> None:
    """Writes the predictions with a teacher that all ranks share."""
    from train.cache_teacher.command import main
    from train.cache_teacher.config import CacheConfig

    main(CacheConfig(**settings))
