"""The package as a whole: what it imports, what it is installed with, and its version."""

import ast
import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from toy import PROJECT, ROOT, run_python

import tlhelpers as tl


def files(folder):
    paths = [*(folder / "tlhelpers").rglob("*"), *(folder / "tlcourse").rglob("*")]
    return {str(path.relative_to(folder)) for path in paths if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.slow
def test_an_installation_without_the_checkout_has_every_file_and_command(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"  # a copy, since building leaves files behind
    for name in (*files(ROOT), "pyproject.toml", "README.md", "LICENSE", "LICENSES.md"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--offline", "--python", sys.executable, "--target", str(target)]
    run_python("-m", "uv", "pip", "install", *options, str(source), check=True)
    assert files(target) == files(ROOT) > {str(Path("tlhelpers/py.typed"))}
    told = run_python("-m", "tlhelpers", "-h", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)})
    commands = ["doctor", "train", "predict", "check", "export", "report"]
    assert re.findall(r"^    (\w+)", told.stdout, re.MULTILINE) == commands


def test_the_core_imports_only_what_it_requires():
    required = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    distributions = {name: canonicalize_name(each[0]) for name, each in metadata.packages_distributions().items()}
    for path in (ROOT / "tlhelpers").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"tlhelpers"}
        others -= {"jupyter_client", "medmnist"}  # where these are missing, a sentence says so
        assert {distributions.get(name, name) for name in others} <= required, path


def test_the_version_is_that_of_the_installed_package(monkeypatch):
    assert tl.__version__ == metadata.version("tlhelpers")
    monkeypatch.setattr(metadata, "version", lambda name: metadata.distribution("no-such-package"))
    assert tl.__version__ == "unknown"


def test_importing_the_package_loads_no_package_but_lazy_loader():
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    codes = ("pass", "import tlhelpers.diagnosis")
    bare, loaded = (set(run_python("-c", f"{code}; {show}").stdout.split()) for code in codes)
    assert loaded - bare - sys.stdlib_module_names == {"tlhelpers", "lazy_loader"}
