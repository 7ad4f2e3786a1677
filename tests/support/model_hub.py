"""A stand-in for the Hugging Face Hub on the loopback interface: one repository, in memory."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

REPOSITORY = "user/model"
COMMIT = "a" * 40


class Handler(BaseHTTPRequestHandler):
    """Answers what the client asks to read and write files."""

    protocol_version = "HTTP/1.1"
    server: "Hub"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body, path = self.rfile.read(length), self.path.split("?")[0]
        files, api = self.server.files, f"/api/models/{REPOSITORY}"
        if path == api:
            self.answer({"_id": "1", "id": REPOSITORY, "sha": COMMIT, "siblings": []})
        elif path.startswith(f"{api}/tree/"):
            self.answer([self.entry(name) for name in files])
        elif path.startswith(f"/{REPOSITORY}/resolve/main/") and path.split("/")[-1] in files:
            self.answer_file(files[path.split("/")[-1]])
        elif path.startswith(f"{api}/preupload/"):
            asked = json.loads(body)["files"]
            usual = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": file["path"], **usual} for file in asked]})
        elif path.startswith(f"{api}/commit/"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.url}/{REPOSITORY}/commit/{COMMIT}"
            self.answer({"commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            self.answer({"error": "not found"}, 404)

    do_POST = do_GET  # noqa: N815
    do_HEAD = do_GET  # noqa: N815

    def entry(self, name: str) -> dict[str, Any]:
        content = self.server.files[name]
        digest = hashlib.sha1(content).hexdigest()
        return {"type": "file", "oid": digest, "size": len(content), "path": name}

    def answer_file(self, content: bytes) -> None:
        wanted = self.headers.get("Range")
        if wanted is None:
            return self.answer(content)
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        part = f"bytes {first}-{last}/{len(content)}"
        return self.answer(content[first : last + 1], 206, {"Content-Range": part})

    def answer(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


class Hub(ThreadingHTTPServer):
    """The server; ``files`` are those of its repository."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve_hub() -> Iterator[Hub]:
    with Hub() as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()
