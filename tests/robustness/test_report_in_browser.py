"""The report's page in a browser: it asks the network for nothing, and its slider, filters and difference map work.

Skipped where Chromium or playwright is missing; fails there if CI is set, because then nobody would notice.
"""

from __future__ import annotations

import json
import os
import shutil

import made_up
import numpy as np
import pytest
from PIL import Image
from test_report import write_hostile

from twcodec.robustness.report import write_report

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def cannot(reason):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        cannot("Chromium is missing")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        cannot("playwright is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a page; at the end of the test: no complaint of the console, no dialog, no request but for the page."""
    contexts, seen, opened_paths = [], [], []

    def open_page(path, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: None if request.url.startswith("data:") else seen.append(request.url))
        opened_paths.append(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert seen == opened_paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = made_up.write(tmp_path_factory.mktemp("report"))
    write_report(folder)
    return folder


@pytest.fixture
def page(opened, folder):
    page = opened(folder / "report.html", viewport={"width": 1200, "height": 900})
    until_captioned(page)
    return page


def pictures_at(page, *shares):
    """Which picture a reader sees in the first comparison at these shares of its width: the class of the topmost."""
    stage = page.locator(".stage").first
    stage.scroll_into_view_if_needed()
    return stage.evaluate(
        """(stage, shares) => {
          const box = stage.getBoundingClientRect();
          return shares.map((share) => document.elementFromPoint(box.left + share * box.width, box.top + 9).className);
        }""",
        list(shares),
    )


def edge(page) -> float:
    """Where the edge stands in the first comparison, as a share of its width."""
    return page.locator(".stage").first.evaluate(
        """(stage) => {
          const box = stage.getBoundingClientRect(), edge = stage.querySelector(".edge").getBoundingClientRect();
          return ((edge.left + edge.right) / 2 - box.left) / box.width;
        }"""
    )


def shown_groups(page):
    """(model, quality, objective, eps) of the groups that the large table shows."""
    bodies = page.locator("#damage tbody:visible").evaluate_all("(all) => all.map((body) => ({...body.dataset}))")
    return [(body["model"], body["quality"], body["objective"], body["eps"]) for body in bodies]


def choose(page, **values):
    for name, value in values.items():
        page.locator(f".filters select[name={name}]").select_option(value)


def test_the_slider_moves_the_edge_between_the_pictures(page):
    slider = page.locator(".slide input").first
    assert edge(page) == pytest.approx(0.5, abs=0.01)
    assert [name.split()[0] for name in pictures_at(page, 0.3, 0.7)] == ["over", "under"]
    slider.press("Home")
    assert edge(page) == pytest.approx(0, abs=0.01)
    assert [name.split()[0] for name in pictures_at(page, 0.3, 0.7)] == ["under", "under"]
    slider.press("End")
    assert edge(page) == pytest.approx(1, abs=0.01)
    assert [name.split()[0] for name in pictures_at(page, 0.3, 0.7)] == ["over", "over"]
    slider.press("ArrowLeft")
    assert edge(page) == pytest.approx(0.99, abs=0.005)


def test_the_edge_follows_the_mouse(page):
    stage = page.locator(".stage").first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 20, steps=4)
    page.mouse.up()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 20)
    assert edge(page) == pytest.approx(0.2, abs=0.01)
    assert page.locator(".slide input").first.input_value() == "20"
    assert page.locator(".slide input").nth(1).input_value() == "50"


def pixels(folder, name):
    return np.asarray(Image.open(folder / f"examples/0-{name}.png")).astype(int)


def difference(page):
    """The first difference map, (H, W, 3)."""
    data = page.locator(".difference canvas").first.evaluate(
        """(canvas) => [canvas.height, canvas.width,
          ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""
    )
    shown = np.array(data[2:]).reshape(data[0], data[1], 4)
    assert (shown[..., 3] == 255).all()
    return shown[..., :3]


def until_captioned(page):
    """Every difference map is drawn. Not by wait_for_function, whose polling the page's own policy forbids."""
    for _ in range(200):
        if all(page.locator(".difference figcaption").all_text_contents()):
            return
        page.wait_for_timeout(50)
    raise AssertionError("a difference map was not drawn")


def until_drawn(page, words):
    """As `until_captioned`, of the first map and what its caption says."""
    caption = page.locator(".difference figcaption").first
    for _ in range(200):
        if words in caption.inner_text():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{caption.inner_text()!r} lacks {words!r}")


def test_the_difference_map_is_eight_times_the_difference_of_the_two_pictures(page, folder):
    apart = np.abs(pixels(folder, "none") - pixels(folder, "two-way"))
    until_drawn(page, f"is {apart.max()} of")
    assert np.array_equal(difference(page), np.minimum(8 * apart, 255))
    caption = page.locator(".difference figcaption").first
    assert caption.inner_text() == f"Difference of the two, ×8; the largest is {apart.max()} of 255 levels."
    page.locator(".compare select.left").first.select_option("original")
    page.locator(".compare select.right").first.select_option("attacked")
    until_drawn(page, "is 8 of")
    apart = np.abs(pixels(folder, "original") - pixels(folder, "attacked"))
    assert np.array_equal(difference(page), 8 * apart)


def test_the_filters_choose_what_the_table_shows(page):
    assert shown_groups(page) == [("default", "6", objective, "4") for objective in made_up.STRENGTH]
    choose(page, model="mbt2018-mean", quality="4", objective="joint", eps="")
    assert shown_groups(page) == [("mbt2018-mean", "4", "joint", eps) for eps in ("2", "4", "8")]
    assert page.locator(".removed tbody:visible").count() == 3
    assert page.locator("#attacked .plot:visible figcaption").all_inner_texts() == ["mbt2018-mean -q 4: joint"]
    choose(page, model="", quality="", objective="", eps="")
    assert len(shown_groups(page)) == 3 * 3 * 3


def test_a_choice_that_was_not_measured_says_so(page):
    assert not page.locator(".nothing").is_visible()
    choose(page, model="mbt2018-mean", quality="6")
    assert page.locator(".nothing").is_visible()
    assert not page.locator("#damage table").is_visible()
    choose(page, quality="4")
    assert not page.locator(".nothing").is_visible()
    assert page.locator("#damage table").is_visible()


def test_the_table_shows_the_chosen_figure_alone(page):
    row = made_up.attacked_row("default", 6.0, "rate", "adaptive", 4.0, "none")
    cell = page.locator("#damage tbody:visible td").first
    assert cell.inner_text().split()[0] == f"{row['loss_ratio']['mean']:.2f}"
    choose(page, metric="delta_psnr")
    assert cell.inner_text().split()[0] == f"{row['delta_psnr']['mean']:+.2f}".replace("-", "−")
    for metric in page.locator("[name=metric] option").evaluate_all("(all) => all.map((option) => option.value)"):
        choose(page, metric=metric)
        assert cell.locator(".f:visible").count() == 1
        assert page.locator("#damage .note:visible").count() == 1


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(opened, folder, width, scheme):
    page = opened(folder / "report.html", viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_everything_can_be_read(opened, folder):
    page = opened(folder / "report.html", java_script_enabled=False)
    assert page.locator("#damage tbody:visible").count() == 3 * 3 * 3
    assert page.locator(".gallery img:visible").count() == 2 * 4
    assert not page.locator(".filters").is_visible()


def test_hostile_names_run_nothing(opened, tmp_path):
    page = opened(write_report(write_hostile(tmp_path / "x")))
    until_captioned(page)
    model = json.loads((tmp_path / "x" / "results.json").read_text())["attacked"][0]["model"].replace("\udce9", "?")
    choose(page, model=model, quality="", eps="")
    assert {group[0] for group in shown_groups(page)} == {model}


def test_a_page_of_nothing_runs(opened, tmp_path):
    (tmp_path / "results.json").write_text('{"version": 1}')
    page = opened(write_report(tmp_path))
    assert page.locator("#attacked .empty").inner_text() == "No attacked pictures were measured."
