"""Where texts go: a folder with one markdown file a document, or the standard output."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from train.generate.documents import Document
from train.generate.journal import Journal, Kept, page_key
from train.generate.many import Task
from train.generate.outcome import Outcome, markdown
from train.run_folder import write_text

UNSEEN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


class FolderOutlet:
    """Notes each outcome in a journal; a document's file is written when all its pages have one."""

    def __init__(self, folder: Path, journal: Journal, names: Mapping[str, str], kept: Kept) -> None:
        self.folder, self.journal, self.names = folder, journal, names
        self.outcomes = dict(kept.outcomes)

    def put(self, task: Task, outcome: Outcome) -> None:
        """Notes an outcome; writes the document if it was the last that it waited for."""
        self.journal.write_page(task.document, task.page, outcome)
        self.outcomes[page_key(task.document, task.page)] = outcome
        self.write(task.document)

    def write(self, document: Document) -> bool:
        """Writes a document's file where all its pages have an outcome, unless nothing of it could be read or it is there
        already. Returns whether all have one.
        """
        outcomes = [self.outcomes.get(page_key(document, page)) for page in document.pages]
        known = [outcome for outcome in outcomes if outcome is not None]
        if len(known) < len(outcomes):
            return False
        if any(outcome.kind != "failed" for outcome in known):
            self._write(self.path(document), markdown(document.pages, known))
        return True

    def path(self, document: Document) -> Path:
        """A document's file."""
        return self.folder / f"{self.names[document.source]}.md"

    def _write(self, path: Path, text: str) -> None:
        if path.is_file() and path.read_bytes() == text.encode():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


class PrintOutlet:
    """Prints outcomes in the order of `tasks`, each as soon as those before it are there."""

    def __init__(self, tasks: Iterable[Task], show: Callable[[Task, Outcome], None]) -> None:
        self._order = iter(tasks)
        self._show = show
        self._waiting: dict[Task, Outcome] = {}
        self._next = next(self._order, None)

    def put(self, task: Task, outcome: Outcome) -> None:
        """Prints what can be printed now."""
        self._waiting[task] = outcome
        while self._next in self._waiting:
            assert self._next is not None
            self._show(self._next, self._waiting.pop(self._next))
            self._next = next(self._order, None)


def show_text(task: Task, outcome: Outcome) -> None:
    """The name of a page and its text."""
    if outcome.kind != "failed":
        print(f"== {task.name}\n{visible(outcome.text)}", flush=True)


def show_json(task: Task, outcome: Outcome) -> None:
    """A JSON line: document, page and outcome."""
    place = {"document": str(task.document.found.path), "page": task.page}
    print(json.dumps(place | outcome.fields(), ensure_ascii=False), flush=True)


def visible(text: str) -> str:
    """What a terminal may get: control characters, which could steer it, become pictures of them. For a file or a pipe,
    the text as it is.
    """
    return text.translate(UNSEEN) if sys.stdout.isatty() else text
