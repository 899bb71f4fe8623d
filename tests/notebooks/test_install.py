"""Installation: the Makefile, tools/install.py, and that the lists of packages agree."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import install as tool
import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from toy import PROJECT, ROOT

from tlhelpers import diagnosis

CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="ascii").splitlines()
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
HERE = ".".join(map(str, sys.version_info[:2]))

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def pins(**environment):
    """The versions in constraints.txt for this Python, or for another environment; none is named twice."""
    lines = map(Requirement, CONSTRAINTS)
    fitting = [line for line in lines if line.marker is None or line.marker.evaluate(environment or None)]
    versions = {line.name: str(line.specifier).removeprefix("==") for line in fitting}
    assert len(versions) == len(fitting)
    return versions


@pytest.fixture
def project(tmp_path):
    """A project of which nothing is installed, in a folder with a space in its name."""
    project = tmp_path / "my project"
    (project / ".venv").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, project)
    return project


def dry_run(folder, *targets):
    return run("make", "-n", "PYTHON=python-of-choice", *targets, cwd=folder, check=True).stdout.splitlines()


@needs_make
@pytest.mark.parametrize("target", ["lab", "test", "test-all", "run", "sync", "results", "lint", "constraints"])
def test_every_target_installs_first_and_again_only_after_a_change(project, target):
    install = "python-of-choice tools/install.py"
    assert dry_run(project, target)[0] == install
    stamp = project / ".venv" / ".installed"
    stamp.touch()
    assert install not in dry_run(project, target)
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(project / name, (stamp.stat().st_mtime + 10,) * 2)
        assert dry_run(project, target)[0] == install
        os.utime(project / name, (stamp.stat().st_mtime - 10,) * 2)


@needs_make
def test_help_names_every_target_every_script_exists_and_clean_spares_the_readers_work(project):
    targets = set(re.search(r"^\.PHONY:(.*)$", MAKEFILE, re.MULTILINE).group(1).split())
    assert set(re.findall(r"^  make ([\w-]+) +\w", run("make", cwd=ROOT).stdout, re.MULTILINE)) == targets
    assert targets == set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert all((ROOT / script).is_file() for script in re.findall(r"\w+/\w+\.py", MAKEFILE))
    assert dry_run(project, "clean") == ["rm -rf .venv build .pytest_cache .ruff_cache .mypy_cache"]


@pytest.fixture
def install(tmp_path):
    """The same for a project in `tmp_path`; `calls` holds the commands that it ran, `fails` says which fail."""
    module = importlib.reload(tool)
    module.calls, module.fails = [], lambda command: False

    def run(command):
        module.calls.append(command)
        if command[1:3] == ["-m", "venv"] and not module.fails(command):
            module.ENV.mkdir()
        return not module.fails(command)

    module.ROOT, module.ENV, module.STAMP = tmp_path, tmp_path / ".venv", tmp_path / ".venv/.installed"
    module.run, module.version_of = run, lambda python: HERE if module.ENV.exists() else ""
    return module


def test_uv_installs_and_compiles_and_the_reader_is_told_how_to_go_on(install, capsys):
    assert install.main() == 0
    assert install.STAMP.exists()
    first, *others = install.calls
    assert first == [sys.executable, "-m", "venv", str(install.ENV)]
    assert [call[1:4] for call in others] == [["-m", "pip", "install"], ["-m", "uv", "pip"]]
    assert {"--compile-bytecode", str(install.PYTHON)} < set(others[-1])
    assert others[-1][-4:] == ["-c", "constraints.txt", "-e", ".[dev]"]
    assert capsys.readouterr().out.splitlines()[-1].strip() == install.activation(os.name)
    assert install.activation("posix") == "source .venv/bin/activate"
    assert install.activation("nt") == r".venv\Scripts\activate"


@pytest.mark.parametrize("culprit", ["uv", ".[dev]"])  # uv cannot be fetched; uv cannot install
def test_pip_takes_over_from_uv_and_says_so(install, culprit, capsys):
    install.fails = lambda command: command[-1] == culprit and (culprit == "uv" or "uv" in command)
    assert install.main() == 0
    assert " ".join(install.calls[-1][1:]) == "-m pip install --disable-pip-version-check -c constraints.txt -e .[dev]"
    assert "uv could not be had or failed: installing with pip" in capsys.readouterr().out


def test_other_versions_are_for_uv_alone_and_a_mistyped_choice_is_told(install, capsys):
    install.CHOSEN, install.fails = "oldest", lambda command: command[-1] == ".[dev]"
    assert install.main() == 1
    assert install.calls[-1][-4:] == ["--resolution", "lowest-direct", "-e", ".[dev]"]
    install.CHOSEN = "latest"
    assert install.main() == 1
    assert "VERSIONS is 'latest'; expected tested, oldest, newest" in capsys.readouterr().err


@pytest.mark.parametrize(("step", "told"), [("venv", "apt install python3-venv"), ("install", "same command again")])
def test_a_step_that_fails_is_explained_and_ends_the_installation(step, told, install, capsys):
    install.fails = lambda command: step in command
    assert install.main() == 1
    assert told in capsys.readouterr().err
    assert not install.STAMP.exists()


def test_an_interrupted_installation_leaves_no_stamp(install):
    assert install.main() == 0
    install.install = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        install.main()
    assert not install.STAMP.exists()


@pytest.mark.parametrize(("version", "kept"), [(HERE, True), ("3.1", False)])
def test_an_environment_is_kept_or_made_anew(version, kept, install, capsys):
    install.ENV.mkdir()
    (install.ENV / "witness").touch()
    install.version_of = lambda python: version
    assert install.make_environment()
    assert (install.ENV / "witness").exists() is kept is ("making it anew" not in capsys.readouterr().out)


def test_the_version_of_an_environment(tmp_path):
    version_of = importlib.reload(tool).version_of
    assert version_of(tmp_path / "no-python") == ""
    assert version_of(sys.executable) == (HERE if importlib.util.find_spec("pip") else "")


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 15, 0), (3, 12, 1)])
def test_a_python_that_will_not_do_is_named(version, install, capsys):
    fake = {"version_info": version, "executable": "/usr/bin/py", "platform": "darwin", "stderr": sys.stderr}
    install.sys, install.platform = SimpleNamespace(**fake), SimpleNamespace(machine=lambda: "x86_64")
    assert install.main() == 1
    wrong = f"Python 3.10 to 3.14 is needed; /usr/bin/py is Python {version[0]}.{version[1]}."
    assert ("no builds for Intel Macs" if version[1] == 12 else wrong) in capsys.readouterr().err
    assert install.calls == []


def test_everyone_names_the_same_pythons_and_extras():
    assert (diagnosis.OLDEST, diagnosis.NEWEST) == (tool.OLDEST, tool.NEWEST)
    minors = range(tool.OLDEST[1], tool.NEWEST[1] + 1)
    assert PROJECT["requires-python"] == f">=3.{minors.start},<3.{minors.stop}"
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in minors} < {*PROJECT["classifiers"]}
    assert [f"python {PROJECT['requires-python']}", "pip", {"pip": ["-c constraints.txt", "-e .[dev]"]}] == CONDA
    assert {*diagnosis.EXTRAS, "dev", "bench", "book"} == {*PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("system", ["linux Linux posix x86_64", "darwin Darwin posix arm64", "win32 Windows nt AMD64"])
@pytest.mark.parametrize("python", ["3.10.0", "3.10.13", "3.11.7", "3.12.1", "3.13.0", "3.14.2"])
def test_each_system_gets_one_version_of_each_package_and_it_will_do(system, python):
    names = ("sys_platform", "platform_system", "os_name", "platform_machine")
    full = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    versions = pins(**default_environment() | full | dict(zip(names, system.split(), strict=True)))
    for wanted in map(Requirement, sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])):
        version = versions.get(canonicalize_name(wanted.name), "0")
        assert wanted.name == "tlhelpers" or wanted.specifier.contains(version, prereleases=True), "make constraints"


@pytest.mark.slow
def test_the_constraints_can_be_installed_together():
    compile = [sys.executable, "-m", "uv", "pip", "compile", "-", "--no-annotate", "--no-header", "--quiet"]
    if run(*compile, input="platformdirs", env={**os.environ, "UV_HTTP_RETRIES": "1"}).returncode:
        pytest.skip("no package registry is in reach")
    done = run(*compile, "--python", sys.executable, input="\n".join(CONDA[2]["pip"]), cwd=ROOT)
    resolved = {line for line in done.stdout.splitlines() if "==" in line}
    assert set() < resolved <= {f"{name}=={version}" for name, version in pins().items()}, done.stderr
