"""An HTTP server of the files of a folder, which can go wrong in many ways."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Serves a folder; ``faults`` maps a path to what goes wrong each time it is asked for."""

    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.faults, self.ranges = root, {}, True
        self.requests: list[tuple[str, str | None]] = []
        self.arrived = threading.Event()  # what a drop waits for: the client has the bytes
        self.arrived.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/cache"

    def counts(self):
        return Counter(name for name, _ in self.requests)

    def handle_error(self, request, client_address):
        """Clients that hang up are no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, name = self.server, self.path.removeprefix("/cache/")
        asked = self.headers.get("Range")
        server.requests.append((name, asked))
        fault = server.faults.get(name, [])
        fault = fault.pop(0) if fault else None
        path = server.root / name
        if isinstance(fault, int) or not path.is_file():
            return self.send_error(fault or 404)
        content = path.read_bytes()
        if fault == "lie":
            content = bytes(len(content))
        if fault == "longer":
            content += b"!"
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.close_connection = True
        if fault == "endless":
            self.end_headers()
            while True:  # until the client hangs up
                self.wfile.write(bytes(1 << 16))
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if fault == "drip":
            for byte in content[start:]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.05)
        self.wfile.write(content[start : start + 1000 if fault == "drop" else None])
        if fault == "drop":
            self.server.arrived.wait(30)

    def log_message(self, *args):
        pass


@contextmanager
def served(root: Path) -> Iterator[Server]:
    """Yield a server of ``root`` that runs in the block."""
    with Server(root) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
