"""One list of dependencies: pyproject.toml; the lock, the conda file and the imports must agree with it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

# where conda-forge calls a package otherwise than PyPI
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
# what conda needs besides the project's dependencies
CONDA_ONLY = {"python", "pip"}
IMPORT_NAMES = {
    "PIL": "pillow",
    "cv2": "opencv-contrib-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def requirements(*extras):
    """Name to requirement of the core dependencies and the given extras."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in lines]
    assert len({canonicalize_name(r.name) for r in parsed}) == len(parsed), "a package is listed twice"
    return {canonicalize_name(r.name): r for r in parsed}


def locked():
    """Name to every version that the lock allows (several where they depend on the Python version)."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        pins.setdefault(canonicalize_name(requirement.name), []).append(Version(specifier.version))
    return pins


def conda_parts():
    plain = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    return {(r := Requirement(entry)).name: r.specifier for entry in plain}, pip


def test_one_version_in_every_file_that_names_one():
    version = PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    newest = re.search(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and newest[1] == version


def test_extras_do_not_repeat_the_core():
    requirements("notebooks", "test", "docs", "dev")


def test_conda_has_the_same_packages_and_ranges():
    plain, pip = conda_parts()
    ranges = {name: specifier for name, specifier in plain.items() if name not in CONDA_ONLY}
    by_pip = {canonicalize_name(Requirement(line).name) for line in pip if not line.startswith("-")}
    expected = {
        CONDA_NAMES.get(name, name): requirement.specifier
        for name, requirement in requirements("notebooks", "test").items()
        if name not in by_pip
    }
    assert ranges == expected


def test_conda_has_the_same_python():
    plain, _ = conda_parts()
    assert plain["python"] == SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(">=3.10")


def test_condas_pip_section_has_this_package_and_locked_pins():
    _, pip = conda_parts()
    assert "-e ." in pip
    pins, wanted = locked(), requirements("notebooks", "test")
    for line in pip:
        if line != "-e .":
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            assert name in wanted, f"{name} is not a dependency in pyproject.toml"
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and [Version(specifier.version)] == pins[name]


def test_conda_takes_everything_from_conda_forge():
    assert CONDA["name"] == PROJECT["name"] and CONDA["channels"] == ["conda-forge", "nodefaults"]


def test_the_lock_pins_every_dependency_inside_its_range():
    pins = locked()
    for name, requirement in requirements("notebooks", "test", "docs", "dev").items():
        assert name in pins, f"{name} is missing from constraints.txt: run make lock"
        outside = [str(version) for version in pins[name] if version not in requirement.specifier]
        assert not outside, f"constraints.txt has {name} {outside}, pyproject.toml wants {requirement.specifier}"


def test_the_lock_pins_one_pytorch_for_all_machines():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"torch\W", line)] == ["torch==2.13.0"]
    assert re.search(r"^LOCK_TORCH\s*:= 2\.13\.0$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    # the CUDA libraries are pinned too, but only for where PyTorch asks for them
    assert all(";" in line for line in lines if line.startswith(("nvidia-", "triton")))
    assert not any("--hash" in line or line.startswith("-") for line in lines)


def third_party_imports(folder):
    """Top-level names imported anywhere in a folder's Python files, without the standard library and our own."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    ours = {"dpo_lib", *(path.stem for path in (ROOT / folder).rglob("*.py"))}
    return {canonicalize_name(IMPORT_NAMES.get(name, name)) for name in names - ours - sys.stdlib_module_names}


# imported by name, installed by the package that needs it
COMES_WITH = {"ipython": "ipykernel", "nbformat": "nbclient", "traitlets": "ipywidgets"}


@pytest.mark.parametrize(("folder", "extras"), [("dpo_lib", ["notebooks"]), ("tests", ["notebooks", "test"])])
def test_every_import_is_a_declared_dependency(folder, extras):
    imported = {COMES_WITH.get(name, name) for name in third_party_imports(folder)}
    undeclared = imported - set(requirements(*extras))
    assert not undeclared, f"{folder} imports {sorted(undeclared)}: add to pyproject.toml"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMakefile:
    def make(self, *arguments, cwd):
        # set by a make that runs the tests
        outer = ("MAKE", "MFLAGS", "TORCH_INDEX", "CPU_INDEX", "PYTHON", "DEVICE")
        outer += ("IMAGES", "TESTS", "RAIN", "ONLY", "PDF")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
        return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)

    @pytest.fixture
    def copy(self, tmp_path):
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, tmp_path)
        return tmp_path

    def test_help_is_the_default_and_lists_every_command(self, copy):
        done = self.make(cwd=copy)
        assert done.returncode == 0, done.stderr
        for command in (
            "setup",
            "lab",
            "reproduce",
            "figures",
            "refresh",
            "docs",
            "test",
            "paper",
            "lint",
            "lock",
            "clean",
        ):
            assert re.search(rf"^  make {command} +\w", done.stdout, re.MULTILINE), command
        assert "CPU_INDEX=1" in done.stdout and "TORCH_INDEX=URL" in done.stdout

    def test_an_old_python_is_refused(self, copy):
        old = copy / "python2"
        old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.8.20;; *) exit 1;; esac\n')
        old.chmod(0o755)
        done = self.make("setup", f"PYTHON={old}", cwd=copy)
        assert done.returncode != 0
        assert "error: expected Python 3.10 or newer, got Python 3.8.20: name another with PYTHON=" in done.stdout
        assert not (copy / ".venv").exists()

    def test_a_missing_python_is_said(self, copy):
        done = self.make("setup", "PYTHON=python-that-is-not-there", cwd=copy)
        assert done.returncode != 0
        assert "error: there is no python-that-is-not-there: install Python 3.10 or newer" in done.stdout

    def test_paper_needs_a_folder_and_hands_it_on(self, copy):
        (copy / ".venv" / "bin").mkdir(parents=True)
        python = copy / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\necho "$@" >> {copy / "calls"}\n')
        python.chmod(0o755)
        done = self.make("paper", cwd=copy)
        assert done.returncode != 0 and "error: expected a folder of training photographs, got none" in done.stdout
        assert "reproduce" not in (copy / "calls").read_text()
        assert self.make("paper", "IMAGES=photos", cwd=copy).returncode == 0
        *_, run, collected, last = (copy / "calls").read_text().splitlines()
        assert run == f"-m dpo_lib experiments run * --scale paper --device cuda --jobs 1 --images {copy / 'photos'}"
        assert collected == "-m dpo_lib experiments collect --scale paper"
        assert last == f"-m dpo_lib reproduce --scale paper --train --device cuda -p images {copy / 'photos'}"

    @pytest.mark.parametrize(("code", "calls"), [(1, ["run", "collect", "reproduce"]), (3, ["run"]), (130, ["run"])])
    def test_paper_shows_what_there_is(self, copy, code, calls):
        """Tables and notebooks come although a network failed (1), not where the run was stopped."""
        (copy / ".venv" / "bin").mkdir(parents=True)
        python = copy / ".venv" / "bin" / "python"
        ends = f'case "$*" in *"experiments run"*) exit {code};; esac'
        python.write_text(f'#!/bin/sh\necho "$@" >> {copy / "calls"}\n{ends}\n')
        python.chmod(0o755)
        assert self.make("paper", "IMAGES=photos", "SCALE=smoke", "JOBS=3", "RUN=--steps 2", cwd=copy).returncode != 0
        made = [line for line in (copy / "calls").read_text().splitlines() if "dpo_lib" in line]
        assert [word for line in made for word in line.split() if word in ("run", "collect", "reproduce")] == calls
        assert "--scale smoke --device cuda --jobs 3" in made[0] and made[0].endswith("--steps 2")

    def test_reproduce_figures_and_refresh(self, copy):
        (copy / ".venv" / "bin").mkdir(parents=True)
        python = copy / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\necho "$@" >> {copy / "calls"}\n')
        python.chmod(0o755)
        for words, call in (
            (["reproduce"], "reproduce"),
            (["figures", "PDF=1"], "reproduce --pdf"),
            (["refresh", "ONLY=01 03"], "reproduce --only 01 03 --refresh"),
        ):
            assert self.make(*words, cwd=copy).returncode == 0
            assert (copy / "calls").read_text().splitlines()[-1] == f"-m dpo_lib {call}"

    def test_paper_names_the_test_images_where_they_are_given(self, copy):
        (copy / ".venv" / "bin").mkdir(parents=True)
        python = copy / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\necho "$@" >> {copy / "calls"}\n')
        python.chmod(0o755)
        assert self.make("paper", "IMAGES=a", "TESTS=b", "RAIN=c", "DEVICE=cpu", cwd=copy).returncode == 0
        run = next(line for line in (copy / "calls").read_text().splitlines() if "experiments run" in line)
        assert run.endswith(f"--device cpu --jobs 1 --images {copy / 'a'} --tests {copy / 'b'} --rain {copy / 'c'}")

    def test_setup_installs_again_only_when_something_changed(self, copy):
        (copy / ".venv" / "bin").mkdir(parents=True)
        record = copy / "calls"
        python = copy / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\necho "$@" >> {record}\n')
        python.chmod(0o755)

        def installs(*settings):
            record.write_text("")
            done = self.make("setup", *settings, cwd=copy)
            assert done.returncode == 0, done.stdout + done.stderr
            now = time.time()  # set the clocks apart: files written at once have the same time
            for name, age in (("pyproject.toml", 120), ("constraints.txt", 120), (".venv/.installed", 60)):
                os.utime(copy / name, (now - age, now - age))
            return [line for line in record.read_text().splitlines() if "pip install" in line or "uninstall" in line]

        (first,) = installs()
        assert first.endswith("-c constraints.txt -e .[notebooks,test]") and "index" not in first
        assert installs() == []
        pyproject = copy / "pyproject.toml"
        pyproject.touch()
        assert len(installs()) == 1
        uninstall, install = installs("CPU_INDEX=1")
        assert "uninstall" in uninstall and uninstall.endswith("torch")
        assert "--extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt" in install
        assert installs("CPU_INDEX=1") == [] and installs() == []
        pyproject.touch()
        (again,) = installs()  # the chosen index is remembered
        assert "--extra-index-url https://download.pytorch.org/whl/cpu " in again
        assert len(installs("TORCH_INDEX=https://example.org/cu")) == 2
