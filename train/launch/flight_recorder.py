"""NCCL's flight recorder: the last collectives of each rank, in `RUN/nccl/rank_N`, when a GPU waits for ever.

`torchfrtrace RUN/nccl -p rank_` compares the ranks' files and tells which collective did not match, or which rank never came to
it. They are pickles of one's own run; nothing here reads them.
"""

import os
from pathlib import Path

EVENTS = "2000"  # collectives that each rank keeps
OURS = "nccl"  # folder in the run's


def keep_collectives(folder: Path) -> None:
    """Switches it on, before process groups are made, and leaves alone what the user has set. Nothing without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return
    (folder / OURS).mkdir(parents=True, exist_ok=True)
    for name, value in settings(folder, torch.__version__).items():
        os.environ.setdefault(name, value)


def settings(folder: Path, version: str) -> dict[str, str]:
    """The variables of this torch: 2.9 has renamed two, and warns of the old names."""
    renamed = tuple(map(int, version.split(".")[:2])) >= (2, 9)
    size, file = ("TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_TEMP_FILE") if renamed else ("TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
    return {size: EVENTS, "TORCH_NCCL_DUMP_ON_TIMEOUT": "1", file: str(folder.resolve() / OURS / "rank_")}


def dump_collectives(rank: int) -> str:
    """Writes them now, from the watchdog, which ends a run before NCCL would; where, "" where there are none."""
    from torch._C import _distributed_c10d as c10d

    dump = getattr(c10d, "_dump_nccl_trace", None)
    prefix = os.environ.get("TORCH_FR_DUMP_TEMP_FILE") or os.environ.get("TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
    if dump is None or not prefix:
        return ""
    path = Path(f"{prefix}{rank}")
    path.write_bytes(dump())
    return str(path)
