"""The page of `report` in a headless browser: filter, sort, copy, no network."""

import shutil

import pytest
from support.evaluations import IMAGES, add, place, write

from multispace.pipeline.report import ReportOptions, report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    runs = []
    for name, word in (("base", "cat"), ("latent", "</script><i>dog")):
        run = write(folder / name, system=name, noise=len(name), good=float(name == "latent"))
        captions = [
            {"image_id": image, "caption": f"a {word} of {image}" if image else "the same"}
            for image in range(IMAGES)
        ]
        add(place(run), captions=captions)
        runs.append(run)
    made = report(ReportOptions(runs, folder / "page.html", resamples=50))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.problems = []
        opened.on("pageerror", lambda error: opened.problems.append(str(error)))
        opened.on("console", lambda line: opened.problems.append(line.text))
        opened.on("request", lambda request: opened.problems.append(request.url))
        opened.goto(made.out.as_uri())
        opened.problems.remove(made.out.as_uri())
        yield opened
        assert opened.problems == []
        browser.close()


@pytest.fixture(autouse=True)
def reset(page):
    page.evaluate("controls.reset(); controls.dispatchEvent(new Event('input'))")


def visible(page):
    return page.locator(".example:visible")


def test_the_word_filters_the_gallery(page):
    assert visible(page).count() == IMAGES
    page.fill("#word", "dog of 7")
    assert visible(page).count() == 1
    assert "a </script><i>dog of 7" in visible(page).inner_text()
    assert page.locator("#count").inner_text() == f"1 of {IMAGES} images"
    assert page.locator("i").count() == 0


def test_the_gallery_is_sorted_by_score_and_by_disagreement(page):
    scores = {}
    for order in ("worst", "best"):
        page.select_option("#sort", order)
        found = visible(page).evaluate_all("(x) => x.map((e) => e.dataset.scores.split('|')[0])")
        scores[order] = list(map(float, found))
    assert scores["worst"] == sorted(scores["worst"])
    assert scores["best"] == scores["worst"][::-1]
    page.select_option("#sort", "disagreement")
    assert "the same" in visible(page).last.inner_text()


def test_scores_and_disagreement_bound_the_gallery(page):
    page.fill("#low", "0.5")
    found = visible(page).evaluate_all("(x) => x.map((e) => e.dataset.scores.split('|')[0])")
    assert found
    assert len(found) < IMAGES
    assert min(map(float, found)) >= 0.5
    page.fill("#low", "")
    page.fill("#differ", "0.1")
    assert visible(page).count() == IMAGES - 1


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
    page.set_viewport_size({"width": 1280, "height": 800})
