"""Installation: the Makefile, its scripts, and that the three lists of packages agree."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tlhelpers.diagnosis import checks

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SYSTEMS = {
    "linux": ("Linux", "posix", "x86_64"),
    "darwin": ("Darwin", "posix", "arm64"),
    "win32": ("Windows", "nt", "AMD64"),
}

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
needs_bash = pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="there is no bash here")


def tool(name):
    """A script of tools/, as a module."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dotted_version():
    return ".".join(map(str, sys.version_info[:2]))


def constraints():
    """The lines of constraints.txt as requirements."""
    return [Requirement(line) for line in (ROOT / "constraints.txt").read_text(encoding="ascii").splitlines()]


# The Makefile ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A project of which nothing is installed, in a folder with a space in its name."""
    folder = tmp_path / "my project"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def dry_run(folder, *targets):
    command = ["make", "-n", "PYTHON=python-of-choice", *targets]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_make
@pytest.mark.parametrize("target", ["lab", "test", "run", "sync", "results", "lint", "constraints"])
def test_every_target_installs_first_and_once(project, target):
    install = "python-of-choice tools/install.py"
    assert dry_run(project, target)[0] == install
    (project / ".venv").mkdir()
    stamp = project / ".venv" / ".installed"
    stamp.touch()
    assert install not in dry_run(project, target)
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(project / name, (stamp.stat().st_mtime + 10,) * 2)
        assert dry_run(project, target)[0] == install
        os.utime(project / name, (stamp.stat().st_mtime - 10,) * 2)


@needs_make
def test_test_runs_all_that_is_promised(project):
    (project / "labs").mkdir()
    (project / "labs" / "lab1.ipynb").touch()
    lines = "\n".join(dry_run(project, "test"))
    notebooks = "pytest -n 2 --dist loadfile --nbval labs/lab1.ipynb"
    for part in ("ruff check", "ruff format --check", "mypy", "pytest -n 2 tests", notebooks):
        assert part in lines


@needs_make
def test_help_names_every_target():
    targets = set(re.search(r"^\.PHONY:(.*)$", MAKEFILE, re.MULTILINE).group(1).split())
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    assert set(re.findall(r"^  make (\w+) +\w", done.stdout, re.MULTILINE)) == targets
    assert targets == set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def test_no_target_is_dead():
    scripts = set(re.findall(r"tools/\w+\.py", MAKEFILE))
    assert scripts
    assert not [script for script in sorted(scripts) if not (ROOT / script).is_file()]


@needs_make
def test_clean_spares_the_readers_work(project):
    removed = " ".join(dry_run(project, "clean"))
    assert ".venv" in removed
    assert "runs" not in removed
    assert "*" not in removed


# tools/install.py -----------------------------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path, monkeypatch):
    """The script, for a project in `tmp_path`; `calls` holds the commands that it ran, `fails` says which fail."""
    script = tool("install")
    script.calls, script.fails = [], lambda command: False

    def run(command):
        script.calls.append(command)
        if command[1:3] == ["-m", "venv"] and not script.fails(command):
            script.ENV.mkdir()
        return not script.fails(command)

    for name, value in {"ROOT": tmp_path, "ENV": tmp_path / ".venv", "STAMP": tmp_path / ".venv/.installed"}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(script, "version_of", lambda python: dotted_version() if script.ENV.exists() else "")
    return script


def test_install_with_uv(install, capsys):
    assert install.main() == 0
    assert install.STAMP.exists()
    assert [call[1:4] for call in install.calls] == [
        ["-m", "venv", str(install.ENV)],
        ["-m", "pip", "install"],
        ["-m", "uv", "pip"],
    ]
    assert install.calls[-1][-4:] == ["-c", "constraints.txt", "-e", ".[dev]"]
    assert str(install.PYTHON) in install.calls[-1]
    assert "failed" not in capsys.readouterr().out


@pytest.mark.parametrize("culprit", ["uv", ".[dev]"])  # uv cannot be fetched; uv cannot install
def test_pip_takes_over_from_uv_and_says_so(install, culprit, capsys):
    install.fails = lambda command: command[-1] == culprit and (culprit == "uv" or "uv" in command)
    assert install.main() == 0
    assert install.calls[-1][1:4] == ["-m", "pip", "install"]
    assert install.calls[-1][-4:] == ["-c", "constraints.txt", "-e", ".[dev]"]
    told = [line for line in capsys.readouterr().out.splitlines() if "uv" in line]
    assert told == ["uv could not be had or failed: installing with pip, which takes a few minutes longer."]


def test_a_failed_installation_leaves_no_stamp(install, capsys):
    assert install.main() == 0
    install.fails = lambda command: "install" in command
    assert install.main() == 1
    assert not install.STAMP.exists()
    assert "type the same command again" in capsys.readouterr().err


def test_an_interrupted_installation_leaves_no_stamp(install, monkeypatch):
    assert install.main() == 0
    monkeypatch.setattr(install, "install", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        install.main()
    assert not install.STAMP.exists()


def test_debian_without_venv_is_told_what_to_install(install, capsys):
    install.fails = lambda command: command[1:3] == ["-m", "venv"]
    assert install.main() == 1
    assert "sudo apt install python3-venv" in capsys.readouterr().err
    assert len(install.calls) == 1


def test_an_environment_is_kept_or_made_anew(install, monkeypatch, capsys):
    install.ENV.mkdir()
    (install.ENV / "witness").touch()
    monkeypatch.setattr(install, "version_of", lambda python: dotted_version())
    assert install.make_environment()
    assert (install.ENV / "witness").exists()
    monkeypatch.setattr(install, "version_of", lambda python: "3.1")
    assert install.make_environment()
    assert not (install.ENV / "witness").exists()
    assert "making it anew" in capsys.readouterr().out


def test_the_version_of_an_environment(tmp_path):
    script = tool("install")
    assert script.version_of(tmp_path / "no-python") == ""
    with_pip = importlib.util.find_spec("pip") is not None
    assert script.version_of(sys.executable) == (dotted_version() if with_pip else "")


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 9, 6), (3, 14, 0)])
def test_a_python_that_will_not_do_is_named(install, version, monkeypatch, capsys):
    monkeypatch.setattr(
        install, "sys", SimpleNamespace(version_info=version, executable="/usr/bin/py", stderr=sys.stderr)
    )
    assert install.main() == 1
    expected = f"Python 3.10 to 3.13 is needed; /usr/bin/py is Python {version[0]}.{version[1]}."
    assert expected in capsys.readouterr().err
    assert install.calls == []


def test_everyone_names_the_same_pythons():
    script = tool("install")
    assert (script.OLDEST, script.NEWEST) == (checks.OLDEST, checks.NEWEST)
    after = (checks.NEWEST[0], checks.NEWEST[1] + 1)
    expected = ">={}.{},<{}.{}".format(*checks.OLDEST, *after)
    assert PROJECT["requires-python"] == expected
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"][0] == f"python {expected}"


# tools/lab.py ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "platform", "reason"),
    [
        ({}, "linux", "neither DISPLAY nor WAYLAND_DISPLAY"),
        ({"DISPLAY": ":0"}, "linux", None),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", None),
        ({}, "darwin", None),
        ({}, "win32", None),
        ({"SSH_CONNECTION": "a b"}, "darwin", "ssh"),
        ({"SSH_TTY": "/dev/pts/1", "DISPLAY": ":10"}, "linux", "ssh"),
        ({"CI": "true", "DISPLAY": ":0"}, "linux", "CI"),
    ],
)
def test_when_there_is_no_screen(environment, platform, reason):
    found = tool("lab").no_screen(environment, platform)
    assert (found is None) if reason is None else (reason in found)


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("reason", [None, "you are logged in over ssh"])
def test_jupyter_keeps_its_safeguards(reason, root, monkeypatch, capsys):
    lab, started = tool("lab"), []
    monkeypatch.setattr(lab.os, "geteuid", lambda: 0 if root else 1000, raising=False)
    monkeypatch.setattr(lab, "no_screen", lambda environment, platform: reason)
    monkeypatch.setattr(lab.runpy, "run_module", lambda name, run_name: started.append((name, run_name)))
    monkeypatch.setattr(sys, "argv", ["lab.py", "--port=9999"])
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH", raising=False)
    lab.main()
    told, options = capsys.readouterr().out, sys.argv[1:]
    assert started == [("jupyterlab", "__main__")]
    assert options[-1] == "--port=9999"
    assert ("--allow-root" in options) is ("You are root" in told) is root
    assert ("--no-browser" in options) is ("open the address" in told) is (reason is not None)
    assert ("ssh -L" in told) is (reason is not None)
    assert not [option for option in options if re.search("token|password|ip=|allow_origin|xsrf", option)]
    assert os.environ["JUPYTER_PREFER_ENV_PATH"] == "1"


def test_lab_prints_troubles_and_nothing_else(monkeypatch, capsys):
    import tlhelpers.doctor  # noqa: F401, loads the module that is patched below

    lab, module = tool("lab"), sys.modules["tlhelpers.doctor"]
    good, bad = checks.Finding("ok", "disk", "fine"), checks.Finding("trouble", "kernel", "elsewhere", "Remove it.")
    monkeypatch.setattr(module, "doctor", lambda quick: module.Report((good,)))
    lab.print_troubles()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(module, "doctor", lambda quick: module.Report((good, bad)))
    lab.print_troubles()
    told = capsys.readouterr().out
    assert "elsewhere" in told
    assert "fine" not in told


def test_the_start_notebook_exists():
    assert (ROOT / tool("lab").START).is_file()


# .ci/run --------------------------------------------------------------------------------------------------------------


@needs_bash
@pytest.mark.parametrize("code", [0, 3])
def test_ci_is_make_test_without_screen_or_keyboard(code, tmp_path):
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "make $* in $PWD, screen [$DISPLAY], typed [$(cat)]"\nexit {code}\n')
    make.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "DISPLAY": ":0"}
    environment["TL_CHROMIUM"] = ""  # it need not try to install one
    run = str(ROOT / ".ci" / "run")
    done = subprocess.run([run], input="keys", cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    first, last = done.stdout.splitlines()
    assert first == f"make test in {ROOT}, screen [], typed []"
    assert re.fullmatch(r"make test took \d+ min \d+ s", last)


# The lists of packages ------------------------------------------------------------------------------------------------


def test_constraints_are_names_and_versions_only():
    one_line = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*( ; [a-z_0-9.'<>=!() *A-Z]+)?")
    lines = (ROOT / "constraints.txt").read_text(encoding="ascii").splitlines()
    assert not [line for line in lines if not one_line.fullmatch(line)]
    assert lines == sorted(lines, key=lambda line: Requirement(line).name)


def direct_requirements(*left_out):
    known = PROJECT["optional-dependencies"].items()
    extras = [line for extra, lines in known if extra not in left_out for line in lines]
    found = [Requirement(line) for line in [*PROJECT["dependencies"], *extras]]
    return [each for each in found if each.name != PROJECT["name"]]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", ["3.10.0", "3.10.13", "3.11.7", "3.12.1", "3.13.0"])
def test_each_system_gets_one_version_of_each_package_and_it_will_do(system, python):
    platform_system, os_name, machine = SYSTEMS[system]
    environment = default_environment() | {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": system,
        "platform_system": platform_system,
        "os_name": os_name,
        "platform_machine": machine,
    }
    pins = [each for each in constraints() if each.marker is None or each.marker.evaluate(environment)]
    names = [pin.name for pin in pins]
    assert len(names) == len(set(names))
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    for wanted in direct_requirements():
        name = canonicalize_name(wanted.name)
        assert name in versions, f"{name} has no version for Python {python} on {system}: make constraints"
        assert wanted.specifier.contains(versions[name], prereleases=True), f"{wanted}: {versions[name]}"


def test_what_is_installed_is_what_the_constraints_say():
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip(f"this Python belongs to {sys.prefix}, not to the project's .venv")
    wrong = []
    for pin in constraints():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            version = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if not pin.specifier.contains(version, prereleases=True):  # 2.15.0+cpu counts as 2.15.0
            wrong.append(f"{pin.name} {version}, expected {pin.specifier}")
    assert not wrong


def pip_section():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, section = environment["dependencies"]
    assert python.startswith("python ")
    assert pip == "pip"
    assert list(section) == ["pip"]
    return section["pip"]


def test_the_conda_environment_takes_everything_from_the_package():
    assert pip_section() == ["-c constraints.txt", "-e .[dev]"]


def resolve(lines):
    """Ask uv which versions a requirements file with these lines would install into this Python."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--no-annotate", "--no-header", "--quiet"]
    environment = {**os.environ, "UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "1"}
    done = subprocess.run(
        [*command, "--python", sys.executable],
        input="\n".join(lines),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    return done.stdout.splitlines() if done.returncode == 0 else None, done.stderr


def test_the_conda_environments_pip_section_resolves():
    if importlib.util.find_spec("uv") is None:
        pytest.skip("uv is not installed")
    found, complaint = resolve(pip_section())
    if found is None and resolve(["platformdirs"])[0] is None:
        pytest.skip("no package registry is in reach")
    assert found is not None, complaint
    pins = {pin.name: str(pin.specifier) for pin in constraints() if pin.marker is None or pin.marker.evaluate()}
    resolved = dict(line.split("==") for line in found if "==" in line)
    assert {name: f"=={version}" for name, version in resolved.items()} == {name: pins[name] for name in resolved}
    assert {canonicalize_name(each.name) for each in direct_requirements("bench")} <= set(resolved)
