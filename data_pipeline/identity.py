"""A short number that tells global batches apart: which samples they hold, and in which order.

A run logs it with every step. Two runs that read the same data have the same numbers, whatever their data-parallel
size, so that a resumed run can be seen to read exactly what it had not yet read.
"""

import zlib
from collections.abc import Sequence

BATCH_HASHES = 1 << 32  # the sum over ranks, modulo this, is the global batch's number


def batch_hash(keys: Sequence[str], first: int = 0) -> int:
    """0..2**32-1 for a rank's rows of a global batch; the ranks' numbers add up (modulo 2**32) to that of the whole.

    keys: one a row, in order. first: the place of the first of them in the global batch. Sums over as many as 2**20
    ranks are exact in float64.
    """
    rows = enumerate(keys, first)
    return sum(zlib.crc32(f"{place}:{key}".encode()) for place, key in rows) % BATCH_HASHES
