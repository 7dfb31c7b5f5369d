"""Notebooks in JupyterLab, in a real browser: the sliders move the picture, and quickly.

Needs Chromium (Debian: ``apt-get install chromium``) and Playwright for Python; skips where one is missing. Screenshots
are kept in ``test-artifacts/``.
"""

import base64
import contextlib
import functools
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright for Python is not installed")

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = ROOT / "test-artifacts"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  return Boolean(panel?.context?.isReady && panel.sessionContext?.isReady
    && panel.sessionContext.session?.kernel?.status === 'idle');
}"""
ALL_CELLS_HAVE_RUN = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type === 'code');
  const idle = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle';
  return idle && cells.length > 0 && cells.every(
    cell => cell.model.executionCount > 0 || !cell.model.sharedModel.source);
}"""
ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.model.type === 'code')
  .flatMap(cell => cell.model.outputs.toJSON())
  .filter(output => output.output_type === 'error').map(output => output.ename + ': ' + output.evalue)"""
PIXELS = """async image => {
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext('2d').drawImage(image, 0, 0);
  return canvas.toDataURL('image/png').split(',')[1];
}"""
# a key press on the first slider: milliseconds until picture `number` is decoded, whether its bytes changed, its type
STEP = """async ([number, key]) => {
  const bytes = async image => new Uint8Array(await (await fetch(image.src)).arrayBuffer()).join();
  const image = document.querySelectorAll('img.widget-image')[number];
  const handle = document.querySelector('.widget-slider .noUi-handle');
  const before = await bytes(image);
  handle.focus();
  const changed = new Promise(resolve => new MutationObserver((_, observer) => { observer.disconnect(); resolve(); })
    .observe(image, {attributes: true, attributeFilter: ['src']}));
  const start = performance.now();
  handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
  await changed;
  await image.decode();
  const took = performance.now() - start;
  return [took, before !== await bytes(image), (await (await fetch(image.src)).blob()).type];
}"""
# parts of the board that reach beyond its output area
OVERFLOW = """() => {
  const board = document.querySelector('.dpo-board');
  const right = board.closest('.jp-OutputArea-output').getBoundingClientRect().right;
  return [...board.querySelectorAll('.jupyter-widgets')]
    .filter(part => !part.closest('.widget-gridbox') && part.getBoundingClientRect().right > right + 1)
    .map(part => part.className);
}"""
# the visible width of the swipe's upper picture and the width of the lower, as parts of the whole
SWIPE = """() => {
  const stack = document.querySelector('.dpo-board .widget-gridbox');
  const [lower, upper] = stack.children;
  return [upper, lower].map(part => part.getBoundingClientRect().width / stack.getBoundingClientRect().width);
}"""
# picture `number`: its address, and whether it is a faithful one with nothing under way
REST = """async number => {
  const src = document.querySelectorAll('img.widget-image')[number].src;
  const answer = await fetch(src).catch(() => null);  // the address may just have been replaced
  const type = answer === null ? '' : (await answer.blob()).type;
  const idle = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle';
  return [src, idle && type === 'image/png'];
}"""
QUIET_LOAD = 1.5

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@contextlib.contextmanager
def jupyter_lab(folder, notebooks, images):
    """A JupyterLab server on copies of the notebooks, with settings of its own below `folder`; gives its address.

    The copies show the photographs of the folder `images`.
    """
    (folder / "root" / "notebooks").mkdir(parents=True)
    for path in notebooks.glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert text.count('images = \\"\\"') == 1
        text = text.replace('images = \\"\\"', f'images = \\"{images}\\"')
        (folder / "root" / "notebooks" / path.name).write_text(text, encoding="utf-8")
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "DPO_LIB_OUTPUT": str(folder / "output"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder / 'root'}"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
    command += ["--ServerApp.shutdown_no_activity_timeout=900", "--MappingKernelManager.cull_idle_timeout=900"]
    address = f"http://127.0.0.1:{port}"
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(120):
                assert server.poll() is None, (folder / "lab.log").read_text()[-2000:]
                try:
                    urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, small_photographs):
    with jupyter_lab(tmp_path_factory.mktemp("lab"), ROOT / "notebooks", small_photographs) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_of(lab, browser):
    """From a notebook's name to its page with all cells run; each is opened once."""
    return functools.cache(functools.partial(open_and_run, browser, lab))


def open_and_run(browser, address, name):
    """Open a notebook, run all its cells, and give the page."""
    page = browser.new_page(viewport={"width": 1280, "height": 1100})
    page.set_default_timeout(120_000)
    page.goto(f"{address}/lab/tree/notebooks/{name}?reset")
    page.wait_for_function(READY)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(ALL_CELLS_HAVE_RUN, timeout=300_000)
    assert page.evaluate(ERRORS) == []
    return page


def picture(page, number):
    """What the browser shows in picture `number` of the widget: its address and its pixels."""
    image = page.locator("img.widget-image").nth(number)
    pixels = Image.open(io.BytesIO(base64.b64decode(image.evaluate(PIXELS))))
    return image.get_attribute("src"), np.asarray(pixels.convert("RGB"), dtype=float)


def settle(page, number):
    """Wait until picture `number` has not changed for a second and a half, and give its address."""
    last = None
    for _ in range(60):
        src, rests = page.evaluate(REST, number)
        if rests and src == last:
            return src
        last = src
        page.wait_for_timeout(1500)
    raise TimeoutError(f"picture {number} does not come to rest")


def press(page, key, number):
    """Press a key on the first slider and wait until picture `number` has changed, and is at rest."""
    before = settle(page, number)
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    page.keyboard.press(key)
    page.wait_for_function(
        "([number, src]) => document.querySelectorAll('img.widget-image')[number].src !== src", arg=[number, before]
    )
    settle(page, number)


def variation(image):
    return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()


def check_latency(page, steps=9):
    """From a key press to the decoded picture, the median of several steps: under 0.1 s where nothing else runs."""
    times = []
    for _ in range(steps):
        settle(page, 1)
        took, changed, kind = page.evaluate(STEP, [1, "ArrowLeft"])
        assert changed and kind == "image/jpeg", f"bytes changed: {changed}, a quick picture: {kind}"
        times.append(took)
    load = os.getloadavg()[0]
    median = float(np.median(times))
    print(f"\nkey press to picture: median {median:.0f} ms, {min(times):.0f} to {max(times):.0f} ms, load {load:.1f}")
    assert median < (100 if load < QUIET_LOAD else 1000), times


@pytest.mark.parametrize("name", ["03_continuous_parameters", "05_single_layer"])
def test_a_slider_moves_the_picture(page_of, name):
    """The network's answer (picture 1) is smoother at the largest lambda than at the smallest."""
    page = page_of(f"{name}.ipynb")
    ARTIFACTS.mkdir(exist_ok=True)
    shown = {}
    for key in ("Home", "End"):
        press(page, key, 1)
        shown[key] = picture(page, 1)
        page.locator("img.widget-image").nth(1).scroll_into_view_if_needed()
        page.screenshot(path=ARTIFACTS / f"{name[:2]}_slider_{key.lower()}.png")
    assert shown["Home"][0] != shown["End"][0]
    assert np.abs(shown["Home"][1] - shown["End"][1]).mean() > 1, "the pictures are the same"
    assert variation(shown["End"][1]) < 0.9 * variation(shown["Home"][1]), "more lambda must be smoother"
    assert page.evaluate(OVERFLOW) == []
    if name == "05_single_layer":
        check_latency(page)


def test_swipe_and_zoom(page_of):
    """03: the swipe cuts the input off where its slider stands; enlarged pixels are not blurred."""
    page = page_of("03_continuous_parameters.ipynb")
    ARTIFACTS.mkdir(exist_ok=True)
    page.get_by_role("button", name="swipe").click()
    page.wait_for_function("() => document.querySelectorAll('.widget-gridbox img.widget-image').length === 2")
    assert page.evaluate(SWIPE) == pytest.approx([0.5, 1], abs=0.02)
    page.locator(".widget-slider .noUi-handle").last.focus()
    for _ in range(25):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(1000)
    assert page.evaluate(SWIPE) == pytest.approx([0.25, 1], abs=0.02)
    page.get_by_role("button", name="4x").click()
    page.wait_for_function("() => document.querySelector('.dpo-crisp') !== null")
    page.wait_for_timeout(500)
    assert picture(page, 0)[1].shape[:2] == (64, 64)  # a quarter of the half-size photograph's 256 pixels
    assert page.evaluate("() => getComputedStyle(document.querySelector('.dpo-crisp')).imageRendering") == "pixelated"
    page.screenshot(path=ARTIFACTS / "03_swipe.png")
    assert page.evaluate(OVERFLOW) == []
    page.close()
