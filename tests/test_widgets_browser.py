"""Notebooks in JupyterLab, in a real browser: the sliders move the picture.

Needs Chromium (Debian: ``apt-get install chromium``) and Playwright for Python; skips where one is missing. Screenshots
are kept in ``test-artifacts/``.
"""

import base64
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

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab server on a copy of the notebooks, with settings of its own; gives its address."""
    folder = tmp_path_factory.mktemp("lab")
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", folder / "root" / "notebooks", ignore=ignored)
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
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGUMENTS)
        yield chromium
        chromium.close()


def open_and_run(browser, address, name):
    """Open a notebook, run all its cells, and give the page."""
    page = browser.new_page(viewport={"width": 1500, "height": 1200})
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


def press(page, key, number):
    """Press a key on the slider and wait for picture `number` to change."""
    before = page.locator("img.widget-image").nth(number).get_attribute("src")
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    page.keyboard.press(key)
    page.wait_for_function(
        "([number, src]) => document.querySelectorAll('img.widget-image')[number].src !== src", arg=[number, before]
    )
    page.wait_for_timeout(1500)  # a drag may be followed by a redraw in full quality


def variation(image):
    return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()


def test_a_slider_moves_the_picture(lab, browser):
    """03: the network's answer (picture 1) is smoother at the largest lambda than at the smallest."""
    page = open_and_run(browser, lab, "03_continuous_parameters.ipynb")
    ARTIFACTS.mkdir(exist_ok=True)
    shown = {}
    for key in ("Home", "End"):
        press(page, key, 1)
        shown[key] = picture(page, 1)
        page.locator("img.widget-image").nth(1).scroll_into_view_if_needed()
        page.screenshot(path=ARTIFACTS / f"03_slider_{key.lower()}.png")
    assert shown["Home"][0] != shown["End"][0]
    assert np.abs(shown["Home"][1] - shown["End"][1]).mean() > 1, "the pictures are the same"
    assert variation(shown["End"][1]) < 0.9 * variation(shown["Home"][1]), "more lambda must be smoother"
    page.close()
