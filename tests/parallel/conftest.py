"""One thread a process: with more, processes that share a few cores wait for each other in every small operation."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
