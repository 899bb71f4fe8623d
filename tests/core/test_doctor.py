"""`doctor`: each planted trouble gives its own message, also where torch or everything else is missing."""

import json
import sys
from importlib import metadata
from types import SimpleNamespace
from unittest import mock

import psutil
import pytest
import torch
from toy import ROOT, cases, run_python

import tlhelpers as tl
from tlcourse.download import cache_folder
from tlhelpers import device, diagnosis
from tlhelpers.__main__ import main
from tlhelpers.diagnosis import Finding, Report
from tlhelpers.models.weights import LITE0_SHA256

GPU = "GPU 0: NVIDIA RTX 3060"


def assert_verdict(verdict, level, *fragments):
    assert verdict[0] == level, verdict
    assert [fragment for fragment in fragments if fragment not in "\n".join(verdict)] == []


@pytest.fixture
def free(monkeypatch):
    """A machine with as many GB of free memory and disk as `free.gb` says."""
    machine = SimpleNamespace(gb=50)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64e9, available=machine.gb * 1e9))
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: SimpleNamespace(free=machine.gb * 1e9))
    return machine


def test_a_python_that_is_too_old(monkeypatch):
    assert_verdict(diagnosis.check_python(), "ok", ".".join(map(str, sys.version_info[:3])))
    monkeypatch.setattr(diagnosis, "OLDEST", (3, 99))
    assert_verdict(diagnosis.check_python(), "trouble", "64-bit Python from 3.99", "PYTHON=")


@cases(
    "ours, torchvisions, level, fragments",
    ("torch>=2", "torch>=2", "ok", []),
    ("no-such>=1", "torch", "trouble", ["no-such>=1 (missing)", "constraints.txt", "[dev]"]),
    ("numpy>=99", "torch", "trouble", [f"numpy>=99 ({metadata.version('numpy')})"]),
    ("torch", "torch (==1.0)", "trouble", [f"torch==1.0 ({metadata.version('torch')})"]),
    ("no-such ; extra == 'course'", "torch", "note", ["no-such (missing) for the extra course"]),
    ("no-such ; extra == 'bench'", "torch", "ok", []),
)
def test_packages(ours, torchvisions, level, fragments, monkeypatch):
    monkeypatch.setattr(metadata, "requires", {"tlhelpers": [ours], "torchvision": [torchvisions]}.__getitem__)
    assert_verdict(diagnosis.check_packages(), level, *fragments)


@cases(
    "python, level, fragments",
    (sys.executable, "ok", []),
    ("python3", "ok", []),
    ("/gone/bin/python", "trouble", ["/gone/bin/python", "kernelspec remove python3"]),
    (None, "trouble", ["no kernel python3", "ipykernel install"]),
)
def test_kernel(python, level, fragments, tmp_path, monkeypatch):
    spec = {"argv": [python, "-m", "ipykernel_launcher"], "display_name": "x", "language": "python"}
    (tmp_path / "kernels/python3").mkdir(parents=True)
    (tmp_path / "kernels/python3/kernel.json").write_text(json.dumps(spec) if python else "{damaged")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert_verdict(diagnosis.check_kernel(), level, *fragments)


@pytest.mark.parametrize(("gb", "level"), [(0.5, "trouble"), (3, "note"), (5, "ok")])
def test_memory_and_disk(gb, level, free):
    free.gb = gb
    assert_verdict(diagnosis.check_memory(), level, f"{gb:.1f} GB of 64.0 GB", "Close other programs")
    assert_verdict(diagnosis.check_disk(), level, f"{gb:.1f} GB are free at", "TL_HOME")


def test_the_folder_for_downloads_is_the_one_that_is_used_and_need_not_exist_yet(tmp_path, free, monkeypatch):
    for home in (tmp_path / "not" / "yet", "~/elsewhere"):
        monkeypatch.setenv("TL_HOME", str(home))
        assert_verdict(diagnosis.check_disk(), "ok", str(cache_folder()))
    monkeypatch.setenv("TL_HOME", f"{__file__}/below")
    assert_verdict(diagnosis.check_disk(), "trouble", "cannot be written to", "TL_HOME")


def test_weights_are_compared_with_the_hashes_that_models_are_loaded_with(tmp_path, monkeypatch):
    assert diagnosis.LITE0_SHA256 == LITE0_SHA256
    assert_verdict(diagnosis.check_weights(), "ok")
    with monkeypatch.context() as patch:
        patch.setattr(diagnosis, "LITE0_SHA256", "0" * 64)
        assert_verdict(diagnosis.check_weights(), "trouble", ".pth", "--force-reinstall --no-deps efficientnet-lite0")
    monkeypatch.setattr(diagnosis, "PACKAGE", tmp_path)
    assert_verdict(diagnosis.check_weights(), "trouble", "3 of 4 files")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/resnet18.json").write_text(json.dumps({"sha256": "0" * 64}))
    assert_verdict(diagnosis.check_weights(), "trouble", "resnet18.safetensors", "git checkout")


@cases(
    "torchs, torchvisions, fragments",
    ("", "raise RuntimeError('operator torchvision::nms does not exist')", ["::nms", "torch torchvision"]),
    ("raise OSError('[WinError 126] loading c10.dll')", "", ["c10.dll", "Visual C++ Redistributable"]),
    ("import time; time.sleep(60)", "", ["no answer within 1 s", "Try again"]),
    ("import os; os._exit(139)", "", ["exit code 139", "--force-reinstall"]),
)
def test_a_torch_that_cannot_be_used(torchs, torchvisions, fragments, tmp_path, monkeypatch):
    for name, text in {"torch": torchs, "torchvision": torchvisions}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert_verdict(diagnosis.check_torch(patience=1 if "sleep" in torchs else 60), "trouble", *fragments)


def test_a_file_that_is_called_torch_is_named(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("import torch\ntorch.ones(2)")
    monkeypatch.chdir(tmp_path)
    assert_verdict(diagnosis.check_torch(), "trouble", f"finds {tmp_path / 'torch.py'}, which is not", "Rename")


@pytest.mark.slow  # imports torch anew
def test_the_torch_that_is_here_can_be_used():
    assert_verdict(diagnosis.check_torch(patience=600), "ok", f"torch {torch.__version__}, torchvision ")


@cases(
    "name, gpu, cuda, reason, level, fragments",
    ("quick", "", None, "no GPU was found", "ok", ["quick (the default), cpu (no GPU was found), fp32 (measured)"]),
    ("full", "", None, "no GPU was found", "note", ["hours"]),
    ("quick", GPU, None, "no GPU was found", "note", [GPU, "torch and torchvision for CUDA"]),
    ("quick", GPU, "13.2", "driver too old", "note", ["driver too old", "Update its driver"]),
    ("full", GPU, "13.2", "driver too old", "trouble", [GPU]),
    ("full", GPU, "13.2", "set by TL_DEVICE", "ok", []),
)
def test_device(name, gpu, cuda, reason, level, fragments, monkeypatch):
    reasons = {"profile": "the default", "device": reason, "precision": "measured"}
    monkeypatch.setattr(device, "_current", device.Profile(name, torch.device("cpu"), "fp32", reasons))
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: name)
    monkeypatch.setattr(diagnosis.subprocess, "run", lambda command, **options: SimpleNamespace(stdout=gpu))
    assert_verdict(diagnosis.check_device(), level, *fragments)


def test_the_quick_checks_find_no_trouble_on_this_machine(free):
    report = tl.doctor(quick=True)
    assert report.ok, report
    assert [each.title for each in report.findings] == ["python", "packages", "kernel", "memory", "disk", "weights"]


def test_a_check_that_fails_hides_no_other_and_a_wrong_setting_is_one_trouble(free, monkeypatch):
    monkeypatch.setattr(diagnosis, "QUICK", (lambda: 1 / 0, diagnosis.check_memory))
    never = mock.Mock()
    monkeypatch.setattr(diagnosis, "SLOW", (diagnosis.check_device, never))
    monkeypatch.setattr(device, "_current", None)
    monkeypatch.setenv("TL_PROFILE", "fast")
    first, *_, last = findings = tl.doctor().findings
    assert [each.level for each in findings] == ["note", "ok", "trouble"]  # and none of the second slow check
    never.assert_not_called()
    assert first.found == "not checked: division by zero"
    assert "profile 'fast' (set by TL_PROFILE) is not known" in last.found


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("trouble", 1)])
def test_the_exit_code(level, code, monkeypatch, capsys):
    report = Report((Finding("disk", level, "x"),))
    monkeypatch.setattr(diagnosis, "doctor", lambda: report)
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == f"{report}\n"


def test_where_no_package_is_installed_doctor_says_so():
    code = f"import sys; sys.path.append({str(ROOT)!r}); import tlhelpers as tl; print(tl.doctor(quick=True))"
    code += "; from tlhelpers import __main__ as command; command._parser().parse_args(['doctor']); tl.fit"
    done = run_python("-I", "-S", "-c", code)  # -S: no packages
    assert "To repair: packages." in done.stdout
    assert done.stderr.endswith("tlhelpers.fit needs packages that are missing here; tlhelpers.doctor() says which\n")
