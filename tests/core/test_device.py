"""Profile, device and precision: found, set, refused, explained."""

import warnings

import pytest
import torch
from toy import cases, refused

import tlhelpers as tl
from tlhelpers import device


@pytest.fixture(autouse=True)
def nothing_set(plain_profile, monkeypatch):
    monkeypatch.setattr(device, "_current", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_without_settings_the_profile_is_quick_and_the_rest_is_tried(monkeypatch):
    monkeypatch.setattr(device, "bf16_gain", lambda: 1.9)
    found = tl.current_profile()
    assert (found.name, found.device.type, found.dtype) == ("quick", "cpu", torch.bfloat16)
    for reason in ("needs no network", "no GPU was found", "measured 1.9 times as fast"):
        assert reason in str(found)


@pytest.mark.parametrize(("gain", "expected"), [(0.3, "fp32"), (1.29, "fp32"), (1.31, "bf16")])
def test_a_cpu_computes_in_bf16_only_if_that_pays(gain, expected, monkeypatch):
    monkeypatch.setattr(device, "bf16_gain", lambda: gain)
    assert device.find_precision(torch.device("cpu"))[0] == expected


def test_measuring_draws_no_random_number_and_happens_once():
    device.bf16_gain.cache_clear()
    before = torch.get_rng_state()
    assert 0.001 < device.bf16_gain() == device.bf16_gain() < 100
    assert torch.equal(before, torch.get_rng_state())


def test_arguments_win_over_the_environment_which_wins_over_defaults(monkeypatch):
    for name, value in {"PROFILE": "full", "DEVICE": "cpu", "PRECISION": "bf16"}.items():
        monkeypatch.setenv(f"TL_{name}", value)
    found = tl.current_profile()
    assert (found.name, found.precision, found.arch, found.data) == ("full", "bf16", "resnet18", "hymenoptera")
    assert set(found.reasons.values()) == {"set by TL_PROFILE", "set by TL_DEVICE", "set by TL_PRECISION"}
    asked = tl.use_profile("quick", precision="fp32")
    assert (asked.name, asked.precision, asked.data) == ("quick", "fp32", "safari")
    assert asked.reasons["precision"] == "asked for by use_profile"
    assert tl.current_profile() is asked
    monkeypatch.setenv("TL_ARCH", "vgg16")
    monkeypatch.setenv("TL_DATA", "mine")
    assert (asked.arch, asked.data) == ("vgg16", "mine")


@cases(
    "change, message",
    ({"name": "fast"}, r"profile 'fast' \(asked for by use_profile\) is not known; expected one of quick, full"),
    ({"precision": "fp8"}, "precision 'fp8' .* expected one of fp32, bf16, fp16"),
    ({"device": "abacus"}, "device 'abacus' .* does not work here: .*cpu, cuda"),
    ({"device": "cuda:99"}, "device 'cuda:99' .* does not work here"),
)
def test_an_impossible_setting_is_refused_and_changes_nothing(change, message):
    before = tl.use_profile(precision="fp32")
    refused(tl.TLError, message, tl.use_profile, **change)
    assert tl.current_profile() is before


@cases("problem, expected", ("", ("cuda", "H100")), ("no", ("cpu", "cuda is there but does not work: no")))
def test_a_gpu_is_used_if_it_works(problem, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    monkeypatch.setattr(device, "_problem", lambda kind: problem)
    assert device.find_device() == expected


def test_a_driver_that_is_too_old_is_reported_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: warnings.warn("The driver is too old", stacklevel=1))
    assert device.find_device() == ("cpu", "no GPU was found: The driver is too old")


@pytest.mark.parametrize(("own", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_bf16_computes_in_fp16(own, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: own or including_emulation)
    assert device.find_precision(torch.device("cuda"))[0] == expected


def test_the_seed_of_the_notebooks(monkeypatch):
    for text, seed in {"": 0, "3": 3}.items():
        monkeypatch.setenv("TL_SEED", text)
        assert tl.use_profile(precision="fp32").seed == seed
