"""What importing the package and starting its command load."""

import os
import subprocess
import sys
from importlib import resources
from importlib.metadata import version

import numpy as np
import pytest

import dpo_lib
from dpo_lib.__main__ import COMMANDS, main
from dpo_lib.images import save_image


def test_the_package_alone_loads_nothing_heavy():
    """`import` alone brings in nothing, the public names torch, but none of the heavy optional packages."""
    program = (
        "import sys, dpo_lib; dpo_lib.__version__; assert not {'torch', 'numpy'} & set(sys.modules); "
        "from dpo_lib import *; "
        "heavy = [m for m in ('matplotlib', 'ipywidgets', 'skimage', 'scipy', 'numba', 'pooch', 'papermill', 'cv2') "
        "if m in sys.modules]; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_import_stays_light():
    """No scikit-image, SciPy, matplotlib or pooch at import, and no socket is opened."""
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import dpo_lib, dpo_lib.data, dpo_lib.metrics, dpo_lib.notebooks, dpo_lib.__main__\n"
        "heavy = {'skimage', 'scipy', 'numba', 'matplotlib', 'pooch', 'papermill', 'ipywidgets'} & set(sys.modules)\n"
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


def test_an_unknown_command_or_option_is_refused_by_its_nearest(capsys):
    for words, said in (
        (["trian"], "unknown command 'trian' (did you mean train?), choose from apply, train,"),
        (["--versoin"], "unknown option --versoin (did you mean --version?)"),
        ([], "required: COMMAND"),
        (["experiments", "--scale"], "unknown option --scale"),
        (["experiments", "lst"], "unknown command 'lst' (did you mean list?), choose from list,"),
        (["experiments", "run", "x", "--scael", "cpu"], "unknown option --scael (did you mean --scale?)"),
        (["evaluate", "--imges", "x"], "unknown option --imges (did you mean --images?)"),
    ):
        with pytest.raises(SystemExit) as refused:
            main(words)
        error = capsys.readouterr().err
        assert refused.value.code == 2 and said in error and error.count("\n") == 1, error


def test_names_that_a_terminal_cannot_show_are_escaped(tmp_path):
    save_image(tmp_path / "in" / "ü.png", np.full((17, 18, 3), 0.5))
    out = os.path.join(os.fsencode(tmp_path), b"caf\xe9 \xc3\xbc")
    words = [sys.executable, "-m", "dpo_lib", "apply", "--operator", "shock", tmp_path / "in", "--out", out]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stdout.endswith(b"caf\\udce9 \\xfc\n"), done.stderr


def test_one_version(capsys):
    assert dpo_lib.__version__ == version("dpo_lib")
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"dpo_lib {dpo_lib.__version__}\n"


def test_type_checkers_are_told_that_there_are_types():
    assert (resources.files("dpo_lib") / "py.typed").is_file()
