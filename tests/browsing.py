"""Fixtures of tests in a real browser: a JupyterLab with folders of its own, a Chromium,
and a page in it.
"""

import json
import os
import subprocess
import sys
import time

import pytest
from playwright.sync_api import sync_playwright

from hands import CHROMIUM, PATIENCE, open_page

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {
        "windowingMode": "none"
    },  # all cells in the page, wherever it is scrolled to
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab with folders of its own: (address, folder of its notebooks)."""
    root = tmp_path_factory.mktemp("lab")
    for name, content in SETTINGS.items():
        file = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    (root / "notebooks").mkdir()
    own = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "S2L_HOME": "home",
    }
    own |= {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ip",
    }
    environment = os.environ | {name: str(root / folder) for name, folder in own.items()}
    for name in ("S2L_PLAIN", "MPLBACKEND"):  # tests set these; a person does not
        environment.pop(name, None)
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        "--IdentityProvider.token=test",
    ]
    options += [f"--ServerApp.root_dir={root / 'notebooks'}", "--LabApp.extension_manager=readonly"]
    options += ["--LabApp.expose_app_in_browser=True"]  # `hands` asks it how the kernel is
    with open(root / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
        )
        try:
            until = time.monotonic() + PATIENCE / 1000
            while not (found := list((root / "run").glob("jpserver-*.json"))):
                assert server.poll() is None and time.monotonic() < until, (
                    root / "log"
                ).read_text()
                time.sleep(0.2)
            yield json.loads(found[0].read_text())["url"], root / "notebooks"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, tmp_path):
    """A page for one test."""
    with open_page(browser, tmp_path) as page:
        yield page
