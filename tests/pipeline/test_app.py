"""`app`: the page in a real browser, its address, and its end."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from support.paths import ROOT

from multispace.cli import main
from multispace.pipeline.app import ended_by_sigterm

CHROMIUM = shutil.which("chromium")
WAIT = 120_000  # ms: the machine may be busy
COMMAND = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from multispace.cli import main\n"
    "main(sys.argv[1:])"
)  # a shell may have set SIGINT to be ignored

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs Gradio: pip install '.[app]'"
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium, and Playwright: pip install '.[test]'",
)


@contextmanager
def served(*arguments: object, **environment: str):
    """Yield the process of the command and the address of the page."""
    command = [sys.executable, "-c", COMMAND, "app", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--device", "cpu"], cwd=ROOT, env={**os.environ, **environment}, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        found = re.fullmatch(
            r"open (http://127\.0\.0\.1:\d+/) in a browser; Ctrl-C ends it\n", line
        )
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        process.stdout.close()


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder for temporary files of the page."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def address(tiny_run, tiny_base_run, tiny_collection, temporary):
    """The page of two systems, though Gradio's variables ask for something else."""
    unwanted = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SHARE": "True",
                "GRADIO_ALLOWED_PATHS": "/", "GRADIO_ANALYTICS_ENABLED": "True",
                "TMPDIR": str(temporary)}  # fmt: skip
    images = tiny_collection / "images"
    with served(tiny_run, tiny_base_run, "--images", images, "--dims", 2, **unwanted) as (_, url):
        yield url


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page with its first image; fails if it asked another host, or was refused anything."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(WAIT)
    asked, refused, console = [], [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda answer: answer.status >= 400 and refused.append(answer.url))
    page.on("console", lambda line: console.append(line.text))
    page.goto(address)
    page.wait_for_selector(".ms-caption")
    yield page
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert any("/assets/" in url for url in asked)
    assert refused == []
    assert [line for line in console if "Content Security Policy" in line] == []
    page.close()


def captions(page, system: int) -> str:
    """Return the captions of a system as text."""
    return page.locator(".ms-system").nth(system).locator(".ms-answer").first.inner_text()


def wait_for_other(page, system: int, before: str) -> None:
    """Wait until the captions of a system are others."""
    page.wait_for_function(
        "([n, text]) => document.querySelectorAll('.ms-system')[n]"
        ".querySelector('.ms-answer').innerText !== text", arg=[system, before],
    )  # fmt: skip


def choose(page, place: int) -> None:
    """Choose an entry of the menu of c."""
    page.get_by_label("c0").click()
    page.locator("[role=listbox] [role=option], ul[role=listbox] li").nth(place).click()


@needs_gradio
@needs_browser
def test_another_image_changes_the_captions_of_every_system(page):
    first = page.locator("#ms-picture").inner_text()
    before = [captions(page, number) for number in (0, 1)]
    page.click("#ms-next")
    for number in (0, 1):
        wait_for_other(page, number, before[number])
    assert page.locator("#ms-picture").inner_text() != first
    page.locator("#ms-gallery button").first.click()
    page.wait_for_function(
        "text => document.querySelector('#ms-picture').innerText === text", arg=first
    )
    assert [captions(page, number) for number in (0, 1)] == before


@needs_gradio
@needs_browser
def test_latents_are_set_by_hand_and_set_back(page):
    before, other = captions(page, 0), captions(page, 1)
    slider = page.locator(".ms-system").first.locator("input[type=range]").first
    for place in range(6):
        choose(page, place)
        slider.fill("4" if place % 2 else "-4")
        page.wait_for_timeout(1500)
        if captions(page, 0) != before:
            break
    assert captions(page, 0) != before
    assert captions(page, 1) == other
    page.get_by_role("button", name="Back to the image's own z and c").click()
    page.wait_for_function(
        "text => document.querySelector('.ms-answer').innerText === text", arg=before
    )


@needs_gradio
@needs_browser
def test_base_has_captions_and_nothing_to_set(page):
    base = page.locator(".ms-system").nth(1)
    assert base.locator("input").count() == 0
    assert "no latents" in base.inner_text()
    assert "next in the beam" in captions(page, 1)


@needs_gradio
@needs_browser
def test_samples_and_their_consensus_are_drawn_for_every_system(page):
    page.click("#ms-draw")
    page.wait_for_selector("text=consensus of the samples")
    for number in (0, 1):
        text = page.locator(".ms-system").nth(number).inner_text()
        assert "5 samples" in text
        assert "consensus of the samples" in text


@needs_gradio
@needs_browser
def test_an_upload_is_captioned_and_garbage_is_one_line(page, tiny_collection, tmp_path, temporary):
    garbage = tmp_path / "garbage.jpg"
    garbage.write_bytes(b"no image")
    before = page.locator("#ms-picture").inner_text()
    page.set_input_files("#ms-file input[type=file]", garbage)
    page.wait_for_selector("text=garbage.jpg: not an image of a known format")
    assert page.locator("#ms-picture").inner_text() == before
    page.set_input_files("#ms-file input[type=file]", tiny_collection / "images" / "train-001.png")
    page.wait_for_selector("#ms-picture >> text=train-001.png")
    page.wait_for_selector(".ms-error", state="detached")
    assert "green" in captions(page, 1)
    names = {path.name for path in temporary.rglob("*")}
    assert "image.webp" in names  # of the gallery
    assert names.isdisjoint({"garbage.jpg", "train-001.png"})  # uploads go once they are read


@needs_gradio
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_to_the_side(browser, address, scheme):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.wait_for_selector(".ms-caption")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


def status_of(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@needs_gradio
def test_the_server_answers_this_page_under_its_own_name_only(address):
    assert status_of(address) == 200
    assert status_of(f"{address}gradio_api/file=/etc/hostname") == 404
    assert status_of(f"{address}gradio_api/file=http://127.0.0.1/a.png") == 404
    assert status_of(f"{address}gradio_api/info") == 404
    assert status_of(address, Host="example.com") == 421
    assert status_of(address, Origin="https://example.com") == 403


@needs_gradio
def test_the_server_listens_on_this_machine_only(address):
    """Whatever Gradio's variables say: the fixture asks for all addresses and a public link."""
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.socket() as place:  # free at another address of this machine
        place.bind(("127.0.0.2", port))


@needs_gradio
def test_a_file_above_the_limit_is_refused(address):
    from multispace.pipeline.playground.loopback import MAX_UPLOAD

    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    request = urllib.request.Request(
        f"{address}gradio_api/upload",
        data=head + bytes(MAX_UPLOAD + 1) + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request, timeout=120)
    assert caught.value.code == 413


@needs_gradio
def test_ctrl_c_ends_the_page_and_nothing_stays(tiny_base_run, tmp_path):
    with served(tiny_base_run, TMPDIR=str(tmp_path)) as (process, _):
        assert [path.name for path in tmp_path.iterdir() if "multispace-app" in path.name]
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr == "interrupted: the page is closed; nothing was written\n"
    assert stdout == ""
    assert [path for path in tmp_path.iterdir() if "multispace-app" in path.name] == []


def test_sigterm_has_the_effect_of_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ended_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_gradio_one_line_says_what_to_install(tiny_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(main, ["app", str(tiny_run)])
    assert result.exit_code == 2
    assert result.stderr == (
        "error: app needs Gradio; run `pip install 'multispace-captioning[app]'`\n"
    )
