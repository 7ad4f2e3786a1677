"""The page of `report` in a headless browser: filter, sort, copy, point at, no network."""

import json
import shutil

import pytest
from support import evaluations
from support.evaluations import add, place, write

from multispace.pipeline.report import ReportOptions, report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]
TIMEOUT = 60_000  # milliseconds, on a machine that does other work
COUNT, SHOWN = 70, 60  # images, and those that are shown at first
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def write_run(run, system, word):
    """Write an evaluation of COUNT images, and a log of three epochs."""
    write(run, system=system, noise=len(system), good=float(system == "latent"))
    add(
        place(run),
        captions=[
            {"image_id": image, "caption": f"a {word} of {image}." if image else "the same"}
            for image in range(COUNT)
        ],
    )
    lines = [
        {
            "step": 9 * epoch,
            "epoch": epoch,
            "split": "val",
            "recon": 8.0 / epoch,
            "cider": epoch / 8,
        }
        for epoch in (1, 2, 3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=TIMEOUT
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluations, "IMAGES", COUNT)
        patch.setattr(evaluations, "MADE", evaluations.replace(evaluations.MADE, images=COUNT))
        runs = [
            write_run(folder / "base", "base", "cat"),
            write_run(folder / "latent", "latent", "</script><i>dog"),
        ]
    return report(ReportOptions(runs, folder / "page.html", resamples=50)).out.as_uri()


@pytest.fixture(scope="module")
def page(browser, url):
    opened = browser.new_page()
    opened.set_default_timeout(TIMEOUT)
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("console", lambda line: opened.problems.append(line.text))
    opened.on("request", lambda request: opened.problems.append(request.url))
    opened.goto(url)
    opened.problems.remove(url)
    yield opened
    assert opened.problems == []
    opened.close()


@pytest.fixture(autouse=True)
def reset(page):
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function(f"count.textContent === '{COUNT} of {COUNT} images'")


def visible(page):
    return page.locator(".example:visible")


def test_the_word_filters_the_gallery(page):
    page.fill("#word", "dog of 7.")
    assert visible(page).count() == 1
    assert "a </script><i>dog of 7." in visible(page).inner_text()
    assert page.locator("#count").inner_text() == f"1 of {COUNT} images"
    assert page.locator("i").count() == 0
    page.select_option("#where", "references")
    assert page.locator("#count").inner_text() == f"0 of {COUNT} images"


def test_more_images_are_shown_on_demand(page):
    assert visible(page).count() == SHOWN
    page.get_by_role("button", name="Show more images").click()
    assert visible(page).count() == COUNT
    assert page.locator("#more").is_hidden()


def test_the_gallery_is_sorted_by_score_and_by_disagreement(page):
    scores = {}
    for order in ("worst", "best"):
        page.select_option("#sort", order)
        page.click("#more")
        found = visible(page).evaluate_all("(x) => x.map((e) => e.dataset.scores.split('|')[0])")
        scores[order] = list(map(float, found))
    assert scores["worst"] == sorted(scores["worst"])
    assert scores["best"] == scores["worst"][::-1]
    page.select_option("#sort", "disagreement")
    page.click("#more")
    assert "the same" in visible(page).last.inner_text()


def test_scores_and_disagreement_bound_the_gallery(page):
    page.fill("#low", "0.5")
    found = visible(page).evaluate_all("(x) => x.map((e) => e.dataset.scores.split('|')[0])")
    assert found
    assert len(found) < COUNT
    assert min(map(float, found)) >= 0.5
    page.fill("#low", "")
    page.fill("#differ", "0.1")
    assert page.locator("#count").inner_text() == f"{COUNT - 1} of {COUNT} images"


def test_a_table_is_copied_by_keyboard(page):
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator("[data-copy]", has_text="LaTeX").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("window.copied")
    text = page.evaluate("window.copied")
    assert r"\toprule" in text
    assert "base" in text


def test_a_phone_does_not_scroll_sideways(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_points_have_a_text_under_the_pointer_and_by_keyboard(page):
    point = page.locator("[data-scale=linear] .tips circle").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    found = page.locator("#tip").inner_text().splitlines()
    assert found == [f"{name}, seed 0, epoch 1: 0.125" for name in ("base", "latent")]
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.locator(".dots svg").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text().startswith("latent: BLEU-1 0.")


def test_the_axes_become_logarithmic(page):
    linear, log = page.locator("[data-scale=linear]"), page.locator("[data-scale=log]")
    assert (linear.is_visible(), log.is_visible()) == (True, False)
    page.check("#log")
    assert (linear.is_visible(), log.is_visible()) == (False, True)
    page.uncheck("#log")


def test_print_has_no_controls(page):
    page.emulate_media(media="print")
    assert page.locator("#controls").is_hidden()
    assert page.locator(".copy").first.is_hidden()
    page.emulate_media(media="screen")


def test_the_policy_lets_nothing_else_run_or_load(browser, url):
    opened = browser.new_page()
    opened.set_default_timeout(TIMEOUT)
    loaded = []
    opened.on("response", lambda response: loaded.append(response.url))
    opened.goto(url)
    attack = "<img src='https://example.org/x' onerror='document.title = \"run\"'>"
    with opened.expect_console_message(lambda line: "inline event handler" in line.text):
        opened.evaluate("(text) => document.body.insertAdjacentHTML('beforeend', text)", attack)
    assert loaded == [url]
    assert opened.title() != "run"
    opened.close()
