"""Pages to text from the settings of the command.

Nothing heavy is imported before the configuration is known to be sound, and no model is loaded before a document that
can be opened is found.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.find_run import locate, read_config
from train.generate.config import GenerateConfig
from train.launch.peers import ending_with_lost_peers

if TYPE_CHECKING:
    from train.config import ParallelConfig
    from train.generate.documents import Document, Failure
    from train.generate.many import Task
    from train.generate.outcome import Tally
    from train.generate.reader import Reader
    from train.generate.team import Team


def main(config: GenerateConfig) -> int:
    """Reads the pages in process groups of its own; returns the exit code, 1 where a page could not be read."""
    from parallel.topology import Topology, environment, start, stop

    rank, world, _ = environment()
    sizes = sizes_of(config)
    try:
        with ending_with_lost_peers("python -m train.generate", rank, config.timeout):
            topology = Topology.of_world(world, tensor=sizes.tensor, expert=sizes.expert)
            start(topology, config.seed, timeout_seconds=config.timeout)
            return generate(config, sizes)
    finally:
        stop()


def sizes_of(config: GenerateConfig) -> "ParallelConfig":
    """How the model is split: its experts over the tensor ranks, too, where they can be."""
    return sizes_for([path for path in (config.checkpoint, config.draft) if path is not None], config.tensor)


def sizes_for(runs: Sequence[str], tensor: int) -> "ParallelConfig":
    """How the models of some runs are split over `tensor` ranks: their experts, too, where they can be."""
    from train.config import ParallelConfig

    folders = [locate(Path(path)).folder for path in runs]
    experts = [read_config(folder / "config.yaml").model.decoder.experts for folder in folders]
    divided = all(count % tensor == 0 for count in experts)
    return ParallelConfig(tensor=tensor, expert=tensor if divided else 1)


def generate(config: GenerateConfig, sizes: "ParallelConfig") -> int:
    """Reads the pages; returns the exit code, the same on all processes. Groups must exist."""
    from train.generate.many import say
    from train.generate.outcome import Tally
    from train.generate.team import Team

    team = Team.of_world(config.tensor)
    documents, failures = team.from_first(lambda: survey_files(config))
    if team.first:
        for failure in failures:
            say(str(failure))
    total = read_documents(config, sizes, team, documents) if documents else Tally()
    total.failed += len(failures)
    if team.first:
        say(str(total))
    return 1 if total.failed else 0


def survey_files(config: GenerateConfig) -> "tuple[list[Document], list[Failure]]":
    """The documents of `image`, and those that cannot be opened."""
    from train.generate.documents import find, survey
    from train.generate.pages import count_pages

    return survey(find(config.image), config.pages, count_pages)


def read_documents(
    config: GenerateConfig, sizes: "ParallelConfig", team: "Team", documents: "list[Document]"
) -> "Tally":
    """Loads the model and reads with it; what became of the pages of all processes."""
    from train.generate.folder import read_into_folder
    from train.generate.reader import Reader, load_draft
    from train.load import load_trained

    trained = load_trained(Path(config.checkpoint), sizes)
    reader = Reader(trained, config, team, load_draft(config, sizes))
    if config.out is not None:
        return read_into_folder(config, team, documents, reader)
    tally = read_to_stdout(config, documents, reader) if team.leads else reader.follow()
    if team.leads:
        reader.dismiss()
    return team.gather(tally)[0]


def read_to_stdout(config: GenerateConfig, documents: "list[Document]", reader: "Reader") -> "Tally":
    """Prints the texts: of one page as it is decoded, of several in order, as they are ready."""
    from train.generate.many import Task, bar_of, read_all
    from train.generate.outlet import PrintOutlet, show_json, show_text

    tasks = [Task(document, page) for document in documents for page in document.pages]
    if len(tasks) == 1 and not config.json:
        return stream_page(config, tasks[0], reader)
    outlet = PrintOutlet(tasks, show_json if config.json else show_text)
    with bar_of(len(tasks), hidden=sys.stdout.isatty()) as bar:
        return read_all(tasks, reader, outlet, config.batch_size, config.dpi, bar.update)


def stream_page(config: GenerateConfig, task: "Task", reader: "Reader") -> "Tally":
    """Prints the text of one page while it is decoded."""
    import time

    from train.generate.many import opened_page, tell
    from train.generate.outcome import Outcome, Tally
    from train.generate.outlet import visible

    tally, started = Tally(), time.monotonic()
    opened = opened_page(task, reader, config.dpi)
    outcome = opened.outcome
    if opened.page is not None:
        for piece in reader.stream(opened.page):
            if isinstance(piece, Outcome):
                outcome = piece
            else:
                print(visible(piece), end="", flush=True)
        print()
    assert outcome is not None
    tell(task.name, outcome)
    tally.add(outcome)
    tally.seconds = time.monotonic() - started
    return tally
