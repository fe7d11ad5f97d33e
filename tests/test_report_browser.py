"""The site in headless Chromium: sorts, filters, compares, by keyboard alone, at both widths and in both lights.

Skipped, saying so, where Chromium, its driver or Selenium is not at hand.
"""

import re
import shutil

import pages
import pytest

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="Selenium is not installed: no browser looks at the site"
)
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip(
        "Chromium or its driver is not installed: no browser looks at the site", allow_module_level=True
    )

BOARD, DATASET = "boards/qb-sim-reduced.html", "datasets/qb-sim.html"
KINDS = (
    "index.html", BOARD, "boards/gf2-mini-reduced.html", "boards/junocam2hst-sim-calibration.html", DATASET,
    "methods/index.html", "methods/sp-i2i.html",
)  # fmt: skip


class Browser:
    def __init__(self, driver, site):
        self.driver, self.site = driver, site

    def open(self, page, width=1400, light="light"):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": light}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        # On a busy machine the driver may return before the page's script has run: it is waited for here.
        self.run("window.isLeft = true")
        self.driver.get((self.site / page).as_uri())
        WebDriverWait(self.driver, 60, poll_frequency=0.02).until(
            lambda _: self.run("return !window.isLeft && document.readyState === 'complete'")
        )

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys):
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def column(self, index, body=0):
        """Values of a column of the leaderboard, as they stand, in one group."""
        return self.run(
            "return [...document.querySelector('#board').tBodies[arguments[1]].rows]"
            ".filter(r => !r.classList.contains('group') && !r.hidden).map(r => r.cells[arguments[0]].dataset.v)",
            index, body,
        )  # fmt: skip

    def rows(self):
        return self.run(
            "return [...document.querySelectorAll('#board [data-source]')].filter(r => !r.hidden).length"
        )

    def select(self, label, visible):
        Select(
            self.driver.find_element(By.XPATH, f"//label[starts-with(., '{label}')]/select")
        ).select_by_visible_text(visible)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    site = pages.build(tmp_path_factory.mktemp("report"))[0].parent
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.page_load_strategy = "none"  # Browser.open waits
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Browser(driver, site)
    driver.quit()


@pytest.mark.parametrize("light", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_pages_fit_load_nothing_from_elsewhere_and_raise_no_error(browser, width, light):
    runs = sorted(p.relative_to(browser.site).as_posix() for p in browser.site.glob("runs/*gsa*.html"))
    for page in (*KINDS, *runs[:1]):
        browser.open(page, width, light)
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), (
            f"{page} is wider than {width}"
        )
        assert browser.driver.get_log("browser") == []
        requested = re.findall(
            r'"url":"(\w+):', "".join(e["message"] for e in browser.driver.get_log("performance"))
        )
        assert set(requested) <= {"file", "data"}


def test_a_heading_sorts_within_each_group_the_good_end_first(browser):
    browser.open(BOARD)
    heads = browser.all("#board thead th")
    column = next(i for i, h in enumerate(heads) if h.text.startswith("PSNR"))
    before = browser.column(0)
    for way, descending in (("descending", True), ("ascending", False)):
        heads[column].find_element(By.TAG_NAME, "button").click()
        assert heads[column].get_attribute("aria-sort") == way
        for body in (0, 1):
            values = [float(v) for v in browser.column(column, body)]
            assert len(values) > 5 and values == sorted(values, reverse=descending)
    assert len(browser.column(0)) == len(before)
    heads[1].find_element(By.TAG_NAME, "button").click()
    assert (
        heads[column].get_attribute("aria-sort") is None
        and heads[1].get_attribute("aria-sort") == "ascending"
    )


def test_rows_are_filtered_by_what_their_method_is_and_costs(browser):
    browser.open(BOARD)
    every = browser.rows()
    browser.select("Kind", "classical")
    assert 0 < browser.rows() < every and f"{browser.rows()} of" in browser.one("output").text
    assert {r.get_attribute("data-kind") for r in browser.all("#board [data-source]:not([hidden])")} == {
        "classical"
    }
    assert any(body.get_attribute("hidden") for body in browser.all("#board tbody"))
    browser.one("button[type=reset]").click()
    browser.run("return new Promise(done => setTimeout(done, 50))")
    assert browser.rows() == every
    browser.one("[name=parameters]").send_keys("100000")
    left = [r.get_attribute("data-parameters") for r in browser.all("#board [data-source]:not([hidden])")]
    assert left and all(0 <= float(p) <= 100000 for p in left)
    browser.one("[name=search]").send_keys("glp-fs")
    assert browser.rows() == 1
    browser.open("boards/gf2-mini-reduced.html")
    some = browser.rows()
    browser.one("[name=trial]").click()
    assert browser.rows() > some
    shown = "return getComputedStyle(document.querySelector('td .printed')).display"
    browser.open(BOARD)
    assert browser.run(shown) == "block"
    browser.one("[data-toggles]").click()
    assert browser.run(shown) == "none"


def views(browser):
    """(zoom, shift as a share of the view) of every picture."""
    script = """return [...document.querySelectorAll('.layer img')].map(i => {
        const m = new DOMMatrix(getComputedStyle(i).transform), side = i.parentElement.clientWidth;
        return `${m.a} ${(m.e / side).toFixed(2)} ${(m.f / side).toFixed(2)}`})"""
    return set(browser.run(script))


def test_pictures_are_compared_under_a_slider_with_one_zoom(browser):
    browser.open(DATASET)
    assert len(browser.all(".panels .view")) == 5
    browser.run("return Promise.all([...document.images].map(i => i.decode()))")
    assert browser.run("return [...document.images].every(i => i.naturalWidth > 0)")
    browser.select("Left", "PAN")
    browser.select("Right", "EXP: fused")
    assert (
        browser.one(".stage").get_attribute("aria-label") == "PAN left of the slider, EXP: fused right of it"
    )
    browser.select("All pictures of", "GSA")
    assert "error" in browser.all(".panels figcaption")[4].text
    before = views(browser)
    browser.run(
        "const z = document.querySelectorAll('.controls input')[1];"
        "z.value = 4; z.dispatchEvent(new Event('input'))"
    )
    zoomed = views(browser)
    assert len(before) == len(zoomed) == 1 and zoomed == {"4 0.00 0.00"}
    ActionChains(browser.driver).drag_and_drop_by_offset(browser.one(".stage"), 40, 0).perform()
    moved = views(browser)
    assert len(moved) == 1 and moved != zoomed
    browser.one(".controls button").click()
    assert views(browser) == before


def test_a_run_shows_its_own_pictures(browser):
    page = next(p for p in browser.site.glob("runs/gsa-*.html") if "GSA on qb-sim" in p.read_text())
    browser.open(page.relative_to(browser.site))
    assert len(browser.all(".panels .view")) == 5


@pytest.mark.parametrize("width", [400, 1400])
def test_all_of_it_is_done_by_keyboard_alone(browser, width):
    browser.open(BOARD, width)
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    assert browser.run("return document.activeElement.getBoundingClientRect().left") >= 0
    reached = []
    for _ in range(30):
        browser.press(Keys.TAB)
        reached.append(
            browser.run("return document.activeElement.name || document.activeElement.textContent")
        )
        outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"nothing shows that {reached[-1]} has the focus"
        if reached[-1].startswith("SAM"):
            break
    assert {"search", "kind", "sees", "training", "preset", "parameters", "speed", "Reset"} < set(reached)
    browser.press(Keys.ENTER)
    assert browser.run("return document.activeElement.parentElement.getAttribute('aria-sort')") == "ascending"
    browser.one("[name=search]").send_keys("brovey")
    assert browser.rows() == 1

    browser.open(DATASET, width)
    for _ in range(40):
        browser.press(Keys.TAB)
        if browser.run("return document.activeElement.classList.contains('stage')"):
            break
    before = views(browser)
    browser.press("+", "+", Keys.ARROW_RIGHT, "<")
    assert len(views(browser)) == 1 and views(browser) != before
    wipe = "return document.querySelector('.viewer').style.getPropertyValue('--wipe')"
    assert browser.run(wipe) == "45%"


def luminance(colour):
    parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_is_legible_in_both_lights(browser):
    seen = {}
    for light in ("light", "dark"):
        browser.open(BOARD, light=light)
        paper = browser.run("return getComputedStyle(document.body).backgroundColor")
        seen[light] = luminance(paper)
        for selector in ("body", "main a", "small", "thead button", "svg.chart text"):
            of = "fill" if "svg" in selector else "color"
            script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
            ink = luminance(browser.run(script, selector, of))
            high, low = max(ink, seen[light]) + 0.05, min(ink, seen[light]) + 0.05
            assert high / low >= 4.5, f"{selector} in the {light}"
    assert seen["light"] > 0.9 and seen["dark"] < 0.1
