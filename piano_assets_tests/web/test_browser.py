"""The page as a person uses it: clicked through in a headless browser."""

import shutil

import pytest

from piano_assets_tests.web.conftest import until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture
def page(address):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page()
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
        assert not [text for text in said if "ERR_FAILED" not in text], said  # requests that a test itself stops


def test_a_file_is_chosen_scored_and_shown(page, midi_files):
    page.get_by_label("Drop MIDI or sound here").set_input_files(str(midi_files[3]))
    row = page.get_by_role("listitem").filter(has_text=midi_files[3].name.strip())
    row.get_by_role("button", name="show").click(timeout=120_000)
    result = page.frame_locator("iframe")
    result.get_by_role("heading", name=midi_files[3].name.strip()).wait_for(timeout=20_000)
    result.get_by_text("How listeners would rate it").first.wait_for()
    assert result.locator("img").count() == 4
    assert result.locator("img").first.evaluate("image => image.naturalWidth") > 500


def test_files_are_dropped_and_what_is_wrong_with_one_is_said(page, midi_files):
    drop = """([name, text]) => {
        const data = new DataTransfer();
        data.items.add(new File([text], name));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data}));
    }"""
    page.evaluate(drop, ["<img src=x onerror=alert(1)>.mid", "no midi at all"])
    row = page.get_by_role("listitem").filter(has_text="<img src=x onerror=alert(1)>.mid").first
    row.get_by_text("neither MIDI nor sound that can be read").wait_for(timeout=120_000)
    assert row.locator("img").count() == 0  # a name is text, whatever it looks like


def test_a_server_that_is_gone_is_said(page):
    page.route("**/recordings*", lambda route: route.abort())
    page.evaluate("refresh()")
    page.get_by_text("The page's server does not answer").wait_for(timeout=10_000)
    page.unroute("**/recordings*")
    page.evaluate("refresh()")
    until(lambda: page.get_by_role("status").inner_text() == "")
