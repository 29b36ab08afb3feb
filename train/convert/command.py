"""One conversion, whole or not at all: written beside its place, then renamed."""

import sys
from pathlib import Path

from train.convert.config import ConvertConfig, is_released
from train.run_folder import written_whole


def main(config: ConvertConfig) -> None:
    """Converts in the direction that `from` asks for, and says what came of it and what to know about it."""
    from parallel.topology import Topology, start, stop

    target = Path(config.to)
    start(Topology(), seed=0)
    try:
        with written_whole(target) as working:
            notes = _convert(config, target, working)
    finally:
        stop()
    for note in notes[:-1]:
        print(f"note: {note}", file=sys.stderr)
    print(notes[-1])


def _convert(config: ConvertConfig, target: Path, working: Path) -> list[str]:
    """Fills `working`, which will become `target`; notes for the user, the last of them the result."""
    if is_released(config.source):
        from train.convert.importing import read_released

        return read_released(config.source, working, target)
    from train.convert.exporting import write_released

    return write_released(config, working)
