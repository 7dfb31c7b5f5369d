"""What importing the package and starting its command load."""

import os
import subprocess
import sys

import pytest

import dpo_lib
from dpo_lib.__main__ import COMMANDS, main


def test_import_is_quick_and_quiet():
    """Adds at most half a second to torch's own import, and brings in none of the heavy optional packages."""
    program = (
        "import time, torch; start = time.perf_counter(); import sys; from dpo_lib import *; "
        "took = time.perf_counter() - start; "
        "heavy = [m for m in ('matplotlib', 'ipywidgets', 'skimage', 'scipy', 'pooch', 'papermill', 'cv2') "
        "if m in sys.modules]; print(took, heavy)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
        for _ in range(3)
    ]
    took = min(float(run.stdout.split()[0]) for run in runs)
    assert all(run.stdout.split(maxsplit=1)[1].strip() == "[]" for run in runs), runs[0].stdout
    assert took < 0.5, took


def test_import_stays_light():
    """No scikit-image, SciPy, matplotlib or pooch at import, and no socket is opened."""
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import dpo_lib, dpo_lib.data, dpo_lib.metrics, dpo_lib.notebooks, dpo_lib.__main__\n"
        "heavy = {'skimage', 'scipy', 'matplotlib', 'pooch', 'papermill', 'ipywidgets', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_and_module_is_found():
    assert all(hasattr(dpo_lib, name) for name in dpo_lib.__all__)
    assert {*dpo_lib.__all__, "data", "widgets", "plotting"} <= set(dir(dpo_lib))
    assert dpo_lib.data.fetch_dataset.__module__ == "dpo_lib.data.download"
    with pytest.raises(AttributeError, match="module 'dpo_lib' has no attribute 'trian'"):
        dpo_lib.trian  # noqa: B018


def test_help_of_the_program_is_quick_and_quiet():
    """No torch for the list of commands; each command explains itself, without a warning."""
    code = (
        "import sys\n"
        "from dpo_lib.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    for command in COMMANDS:
        assert f"  {command}  " in said.stdout
        words = [sys.executable, "-W", "error", "-m", "dpo_lib", command, "--help"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert f"usage: python -m dpo_lib {command} " in done.stdout


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["trian"])
    assert refused.value.code == 2 and "invalid choice: 'trian'" in capsys.readouterr().err
