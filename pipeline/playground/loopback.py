"""Serve the page to this machine alone: its address, what it answers, and what it may load."""

import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from multispace.errors import OptionError

HOST = "127.0.0.1"
MAX_UPLOAD = 50 << 20  # bytes of a file
# The page may load nothing from elsewhere, whatever a later version of Gradio asks for. Gradio's
# own scripts and styles are partly inline.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",
}
# All that the page asks for. Gradio has more routes, some of which fetch URLs.
PATHS = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json")
API = "/gradio_api/"
PREFIXES = ("/assets/", "/static/")
API_PATHS = ("upload", "upload_progress", "startup-events", "app_id", "cancel", "reset")
API_PREFIXES = ("queue/", "heartbeat/")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class OnlyThisPage:
    """An ASGI middleware that answers the page itself and nothing else.

    Requests under another name of this machine are refused, because a site elsewhere can give its
    own name the address 127.0.0.1, and so are requests that come from the pages of other sites.

    :param port: of the page
    :param folder: of the pictures and uploads
    """

    def __init__(self, app: Any, port: int, folder: Path) -> None:
        self.app, self.folder = app, str(folder)
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a websocket is closed
        status = self.refusal(scope)
        if status:
            await _refuse(send, status)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def refusal(self, scope: Message) -> int:
        """Return the status of a refusal; 0 for a request that is answered."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host") not in self.hosts:
            return 421
        origin = headers.get(b"origin")
        if origin is not None and origin.removeprefix("http://") not in self.hosts:
            return 403
        return 0 if self.knows(scope["path"]) else 404

    def knows(self, path: str) -> bool:
        """Return whether the page asks for a path."""
        if ".." in path.split("/"):
            return False
        if path in PATHS or path.startswith(PREFIXES):
            return True
        if not path.startswith(API):
            return False
        rest = path.removeprefix(API)
        return (
            rest in API_PATHS
            or rest.startswith(API_PREFIXES)
            or rest.startswith(f"file={self.folder}/")
        )


async def _refuse(send: Send, status: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def private_environment() -> Iterator[Path]:
    """Yield a folder for pictures and uploads, which is removed at the end.

    Gradio's variables of the environment are set aside meanwhile: they could make the page public,
    share folders, or send statistics.
    """
    folder = Path(tempfile.mkdtemp(prefix="multispace-app-")).resolve()
    own = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder)}
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it is there
        own[name] = ",".join(filter(None, (os.environ.get(name), HOST)))
    changed = [*own, *(name for name in os.environ if name.startswith("GRADIO_"))]
    before = {name: os.environ.pop(name) for name in changed if name in os.environ}
    os.environ.update(own)
    try:
        yield folder
    finally:
        for name in own:
            os.environ.pop(name, None)
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def free_port(port: int) -> int:
    """Return ``port``, or a free one for 0.

    :raises OptionError: it is in use, or not allowed.
    """
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((HOST, port))
        except OSError as error:
            raise OptionError(
                error.strerror or str(error),
                where=f"--port {port}",
                hint="--port 0 takes a free one",
            ) from error
        return int(place.getsockname()[1])


def launch(blocks: Any, port: int, folder: Path, settings: dict[str, Any]) -> str:
    """Serve a page of Gradio in another thread, and return its address.

    :param folder: of the pictures and uploads
    :param settings: further parameters of Gradio's ``launch``
    """
    from starlette.middleware import Middleware

    blocks.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        root_path="",
        max_file_size=MAX_UPLOAD,
        max_threads=4,
        state_session_capacity=50,
        app_kwargs={
            "middleware": [Middleware(OnlyThisPage, port=port, folder=folder)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        **settings,
    )
    return f"http://{HOST}:{port}/"
