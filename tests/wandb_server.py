"""A server that answers as Weights & Biases does, and keeps the rows that it is sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_VERSIONS = {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "latestLocalVersionInfo": None, "features": []}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}  # as they were first described

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients end without closing."""

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            self.runs.setdefault(given["name"], given)
            return {"upsertBucket": {"bucket": self._run(given["name"]), "inserted": True}}
        if "RunResumeStatus" in query:
            known = given["name"] in self.runs
            return {"model": {"bucket": self._run(given["name"]) if known else None, "entity": {"name": "me"}}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"http://127.0.0.1:{self.server_port}/"} for name in given["files"]]
            return {"createRunFiles": {"runID": "id", "uploadHeaders": [], "files": files}}
        viewer = {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer, "serverInfo": _VERSIONS}

    def _run(self, name: str) -> dict[str, Any]:
        count, last = len(self.rows), self.rows[-1:]
        project = {"id": "p", "name": "scoresde", "entity": {"id": "e", "name": "me"}}
        return {
            "id": "id", "name": name, "displayName": name, "config": "{}", "project": project, "sweepName": None,
            "historyLineCount": count, "logLineCount": 0, "eventsLineCount": 0, "summaryMetrics": "{}", "tags": [],
            "historyTail": json.dumps([json.dumps(row) for row in last]), "eventsTail": "[]", "wandbConfig": '{"t": 1}',
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if "file_stream" in self.path:
            history = (given.get("files") or {}).get("wandb-history.jsonl", {"content": []})
            self.server.rows += map(json.loads, history["content"])
            self._reply({})
        else:
            self._reply({"data": self.server.answer(given.get("query", ""), given.get("variables") or {})})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def _reply(self, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *about: Any) -> None:
        """Nothing is printed."""


@contextmanager
def serving() -> Iterator[_Server]:
    """A server on a port of this machine within the block."""
    with _Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
