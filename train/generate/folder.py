"""Reading into a folder: one markdown file a document, a journal from which the same command goes on after a kill."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from train.generate.documents import Document, names
from train.generate.journal import Journal, Kept, begin, page_key, read_journals
from train.generate.many import Task, bar_of, read_all, say
from train.generate.outcome import Tally
from train.generate.outlet import FolderOutlet

if TYPE_CHECKING:
    from train.generate.config import GenerateConfig
    from train.generate.reader import Reader
    from train.generate.team import Team


def read_into_folder(
    config: "GenerateConfig", team: "Team", documents: list[Document], reader: "Reader"
) -> Tally:
    """Reads what the journals of `config.out` do not have yet; what became of the pages, all processes together."""
    with ExitStack() as resources:
        return _read(config, team, documents, reader, resources)


def _read(
    config: "GenerateConfig", team: "Team", documents: list[Document], reader: "Reader", resources: ExitStack
) -> Tally:
    folder = Path(config.out or "")

    def journal(number: int) -> Journal:
        return resources.enter_context(closing(Journal(folder, number)))

    own: list[Journal] = []

    def prepare() -> tuple[dict[str, str], list[tuple[int, int]]]:
        own.append(journal(0))
        kept = begin(own[0], reader.settings(), config.restart)
        return _name(documents, kept, own[0]), pending(documents, kept)

    called, waiting = team.from_first(prepare)
    if not team.leads:
        reader.follow()
        return sum(team.gather(Tally()), Tally())
    outlet = FolderOutlet(
        folder, own[0] if team.first else journal(team.group), called, read_journals(folder)
    )
    tasks = [Task(documents[number], page) for number, page in team.share(waiting)]
    with _interruptible(folder, documents, team.first), bar_of(len(tasks), hidden=not team.first) as bar:
        if team.first:
            for document in documents:  # what was kept whole, in case that its file is gone
                outlet.write(document)
        tally = read_all(tasks, reader, outlet, config.batch_size, config.dpi, bar.update)
        reader.dismiss()
        total = sum(team.gather(tally), Tally())
    if team.first:
        _finish(outlet, documents, team.groups)
        total.kept = sum(len(document.pages) for document in documents) - len(waiting)
    return total


def pending(documents: list[Document], kept: Kept) -> list[tuple[int, int]]:
    """(number of the document, page) of all pages that nothing is kept of, in order."""
    return [
        (number, page)
        for number, document in enumerate(documents)
        for page in document.pages
        if page_key(document, page) not in kept.outcomes
    ]


def _name(documents: list[Document], kept: Kept, journal: Journal) -> dict[str, str]:
    """What each document is called; new names are noted."""
    ours = {name.casefold() for name in kept.names.values()}
    there = [str(path.relative_to(journal.folder).with_suffix("")) for path in journal.folder.rglob("*.md")]
    called = names(documents, kept.names, (name for name in there if name.casefold() not in ours))
    for source, name in called.items():
        if source not in kept.names:
            journal.write({"document": source, "name": name})
    return called


def _finish(outlet: FolderOutlet, documents: list[Document], groups: int) -> None:
    """Writes the documents whose pages several processes read; all of these have come to their end."""
    if groups > 1:
        outlet.outcomes |= read_journals(outlet.folder, with_failures=True).outcomes
        for document in documents:
            outlet.write(document)


@contextmanager
def _interruptible(folder: Path, documents: list[Document], first: bool) -> Iterator[None]:
    """Ctrl-C inside is told what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if first:
            outcomes = read_journals(folder).outcomes  # those of other processes, too
            pages = [page_key(document, page) for document in documents for page in document.pages]
            kept, total = sum(key in outcomes for key in pages), len(pages)
            say(f"{kept} of {total} pages are kept in {folder}; the same command reads the others")
        raise
