"""Profile, device and precision: found, overridden, refused, explained."""

from __future__ import annotations

import pytest
import torch

import tlhelpers as tl
from tlhelpers import device as profile


@pytest.fixture(autouse=True)
def nothing_set(plain_profile: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_current", None)
    monkeypatch.setattr(profile, "_gain", None)


def test_defaults_are_quick_and_found_by_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(profile, "bf16_gain", lambda: 1.9)
    found = profile.current_profile()
    assert (found.name, found.device.type, found.precision) == ("quick", "cpu", "bf16")
    assert found.dtype == torch.bfloat16
    text = str(found)
    assert "needs no network" in text
    assert "no GPU was found" in text
    assert "measured 1.9 times as fast" in text


def test_bf16_must_really_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    for gain, expected in ((0.3, "fp32"), (1.29, "fp32"), (1.31, "bf16")):
        monkeypatch.setattr(profile, "bf16_gain", lambda gain=gain: gain)
        assert profile.find_precision(torch.device("cpu"))[0] == expected


def test_the_probe_measures_and_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    gain = profile.bf16_gain()
    assert 0.001 < gain < 100
    assert profile.bf16_gain() == gain, "measured twice"
    assert torch.equal(before, torch.get_rng_state())


def test_environment_and_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_PROFILE", "full")
    monkeypatch.setenv("TL_DEVICE", "cpu")
    monkeypatch.setenv("TL_PRECISION", "bf16")
    found = profile.current_profile()
    assert (found.name, found.precision, found.arch, found.data) == ("full", "bf16", "resnet18", "hymenoptera")
    assert found.reasons["profile"] == "set by TL_PROFILE"
    asked = tl.use_profile("quick", precision="fp32")
    assert (asked.name, asked.precision) == ("quick", "fp32")
    assert asked.reasons["precision"] == "asked for by use_profile"
    assert profile.current_profile() is asked
    monkeypatch.setenv("TL_ARCH", "vgg16")
    monkeypatch.setenv("TL_DATA", "mine")
    assert (asked.arch, asked.data) == ("vgg16", "mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "fast"}, r"profile 'fast' \(asked for by use_profile\) is not known; expected one of quick, full"),
        ({"precision": "fp8"}, "precision 'fp8' .* expected one of fp32, bf16, fp16"),
        ({"device": "abacus"}, "device 'abacus' .* is not known to torch"),
        ({"device": "cuda:99"}, "device 'cuda:99' .* does not work here"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, str], message: str) -> None:
    before = profile._current
    with pytest.raises(tl.TLError, match=message):
        tl.use_profile(**change)
    assert profile._current is before, "a refused setting changed something"


def test_a_gpu_that_does_not_work_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(profile, "_device_problem", lambda device: "driver too old")
    device, why = profile._find_device()
    assert device.type == "cpu"
    assert why == "cuda is there but does not work: driver too old"


def test_a_gpu_without_bf16_takes_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert profile.find_precision(torch.device("cuda"))[0] == "fp16"


def test_the_seed_of_the_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TL_SEED", raising=False)
    assert profile.current_profile().seed == 0
    monkeypatch.setenv("TL_SEED", "3")
    assert profile.current_profile().seed == 3
    monkeypatch.setenv("TL_SEED", "three")
    with pytest.raises(tl.TLError, match="TL_SEED is 'three'; expected a whole number"):
        profile.current_profile().seed  # noqa: B018
