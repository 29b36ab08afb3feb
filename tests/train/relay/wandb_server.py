"""As much of wandb's server as a run needs: it keeps the history that it is sent, and tells it when the run comes back.

What it answers was found by trying wandb 0.31 against it; an unknown question gets an empty answer.
"""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "p", "name": "microfiche", "entity": {"id": "e", "name": "me"}}


class WandbServer:
    """Of one project. history: run → its rows as they came in, each with `_step`."""

    def __init__(self) -> None:
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.url = ""

    def steps(self, run: str) -> list[int]:
        """What the server has of a run, in its order."""
        return [row["_step"] for row in self.history.get(run, [])]

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """To one question."""
        named = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = variables.get("name", "")
        rows = self.history.get(name)
        match named[1] if named else "":
            case "Viewer" | "ViewerUser":
                return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
            case "RunResumeStatus":
                return {"model": PROJECT | {"bucket": None if rows is None else self._bucket(name, rows)}}
            case "UpsertBucket":
                self.history.setdefault(name, [])
                return {"upsertBucket": {"bucket": {"id": name, "name": name, "project": PROJECT}, "inserted": rows is None}}
            case "CreateRunFiles":
                files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in variables["files"]]
                return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": name, "displayName": name, "summaryMetrics": json.dumps(rows[-1] if rows else {}), "logLineCount": 0,
            "historyLineCount": len(rows), "eventsLineCount": 0, "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsTail": "[]", "config": "{}", "wandbConfig": '{"t": 1}', "tags": [],
        }  # fmt: skip

    def add(self, run: str, files: dict[str, Any]) -> None:
        """What a run streams."""
        if sent := files.get("wandb-history.jsonl"):
            self.history.setdefault(run, [])[sent["offset"] :] = map(json.loads, sent["content"])


@contextmanager
def serving() -> Iterator[WandbServer]:
    """The server, in a thread of this process."""
    state = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self._content()
            if self.path == "/graphql":
                asked = json.loads(content)
                self._reply({"data": state.answer(asked["query"], asked.get("variables") or {})})
                return
            if self.path.endswith("/file_stream"):
                state.add(self.path.split("/")[-2], json.loads(content).get("files") or {})
            self._reply({})

        def do_PUT(self) -> None:
            self._content()
            self._reply({})

        def _content(self) -> bytes:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

        def _reply(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
