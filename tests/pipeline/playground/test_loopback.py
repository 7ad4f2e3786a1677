import asyncio
import os
import socket
from pathlib import Path

import pytest

from multispace.errors import OptionError
from multispace.pipeline.playground.loopback import (
    HEADERS,
    HOST,
    OnlyThisPage,
    free_port,
    private_environment,
)

PORT = 7860


def ask(path: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of the answer to a request."""

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    sent = []

    async def send(message):
        sent.append(message)

    given = {"host": f"{HOST}:{PORT}", **headers}
    encoded = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "path": path, "headers": encoded}
    asyncio.run(OnlyThisPage(inner, PORT, Path("/tmp/own"))(scope, None, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/upload",
     "/gradio_api/queue/join", "/gradio_api/heartbeat/x", "/gradio_api/file=/tmp/own/a/b.png"],
)  # fmt: skip
def test_the_page_is_answered_and_may_load_nothing_from_elsewhere(path):
    status, headers = ask(path)
    assert status == 200
    assert headers == HEADERS
    assert "http" not in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["/docs", "/openapi.json", "/gradio_api/info", "/gradio_api/openapi.json", "/monitoring",
     "/gradio_api/run/predict", "/gradio_api/call/predict", "/gradio_api/runs",
     "/gradio_api/file=https://example.com/a.png", "/gradio_api/file=/etc/passwd",
     "/gradio_api/file=/tmp/own/../../etc/passwd", "/gradio_api/file=/tmp/owned/a.png",
     "/gradio_api/proxy=https://example.com/", "/login", "/assets/../../etc/passwd",
     "/gradio_api/uploads", "/gradio_api/component_server"],
)  # fmt: skip
def test_nothing_but_the_page_is_answered(path):
    assert ask(path)[0] == 404


@pytest.mark.parametrize("host", ["example.com", f"example.com:{PORT}", HOST, f"{HOST}:80", ""])
def test_another_name_of_this_machine_is_refused(host):
    assert ask("/", host=host)[0] == 421


def test_pages_of_other_sites_are_refused():
    assert ask("/gradio_api/upload", origin="https://example.com")[0] == 403
    assert ask("/gradio_api/upload", origin="null")[0] == 403
    assert ask("/gradio_api/upload", origin=f"http://{HOST}:{PORT + 1}")[0] == 403
    assert ask("/gradio_api/upload", origin=f"http://{HOST}:{PORT}")[0] == 200
    assert ask("/", host=f"localhost:{PORT}", origin=f"http://localhost:{PORT}")[0] == 200


def test_variables_of_gradio_are_set_aside_and_uploads_removed(monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.delenv("no_proxy", raising=False)
    before = dict(os.environ)
    with private_environment() as folder:
        own = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")}
        assert own == {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder)}
        assert os.environ["NO_PROXY"] == f"example.com,{HOST}"
        assert os.environ["no_proxy"] == HOST
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "upload.png").write_bytes(b"x")
    assert not folder.exists()
    assert dict(os.environ) == before


def test_a_port_in_use_is_one_error():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=f"--port {port}: Address already in use; --port 0"):
            free_port(port)
        assert free_port(0) != port
