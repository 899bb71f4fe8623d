"""Learning-rate trials that leave no trace, unfreezing in stages, and what a step can do beyond the plain one."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torchvision.transforms import v2
from toy import toy_data

import tlhelpers as tl
from tlhelpers import finding

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 8, "lr": 0.01, "keep": "last", "optimizer": SGD}


def network(arch: str = "resnet18", seed: int = 0) -> Any:
    return tl.load_model(arch, classes=["red", "green"], weights="none", size=64, seed=seed)


# --- learning rates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["plain", "error", "interrupt", "own batches"])
def test_a_trial_leaves_no_trace(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network().train()
    model.layer1.eval()
    before, modes = tl.snapshot(model), [module.training for module in model.modules()]
    state = torch.get_rng_state()
    data: Any = toy_data(20, 8, 4)
    if method == "own batches":
        batches = [(torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 0, 1]))] * 3
        state = torch.get_rng_state()
        data = {"train": batches, "val": batches}
    if method in ("error", "interrupt"):
        epoch, calls = finding.train_epoch, iter(range(5))

        def failing(*args: Any, **kwargs: Any) -> Any:
            if next(calls, None) is None:
                raise {"error": RuntimeError("the device is gone"), "interrupt": KeyboardInterrupt()}[method]
            return epoch(*args, **kwargs)

        monkeypatch.setattr(finding, "train_epoch", failing)
        with pytest.raises((RuntimeError, KeyboardInterrupt)):
            tl.find_lr(model, data, batch_size=8)
    else:
        trial = tl.find_lr(model, data, batch_size=8)
        assert trial.curve["lr"].is_monotonic_increasing
        assert "weights are as they were" in repr(trial)
    assert tl.changed(model, before) == []
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_the_suggested_rate_trains_and_the_far_end_does_not() -> None:
    data = toy_data(40, 8, 4)
    data.train.labels = data.train.labels[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    trial = tl.find_lr(tl.freeze(network()), data, lr=1000.0, lowest=1e-8, batch_size=8, augment=False)
    assert trial.suggestion <= trial.highest
    assert len(trial.curve) < 80, "it went on although the loss had exploded"
    data = toy_data(40, 8, 4)
    run = tl.fit(tl.freeze(network()), data, epochs=3, lr=trial.suggestion, batch_size=8, augment=False)
    losses = run.history["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    chart = trial.plot()
    assert "falls fastest" in chart.alt


def test_a_trial_keeps_the_proportions_of_rates() -> None:
    model = network()
    tl.unfreeze(tl.freeze(model), last=1)
    trial = tl.find_lr(model, toy_data(20, 8, 4), lr={"layer4": 0.01, "head": 0.1}, batch_size=8)
    assert trial.curve["lr"].max() <= 0.1


def test_trials_that_make_no_sense() -> None:
    model = network()
    with pytest.raises(tl.TrainingError, match="10 steps or more"):
        tl.find_lr(model, toy_data(), steps=3)
    model.requires_grad_(False)
    with pytest.raises(tl.TrainingError, match="every parameter is frozen"):
        tl.find_lr(model, toy_data())


# --- stages -----------------------------------------------------------------------------------------------------


def test_each_stage_trains_one_block_more(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trained, rates = network(), [], []
    original = finding.fit

    def noting(network: nn.Module, data: Any, **options: Any) -> tl.Run:
        before = tl.snapshot(network)
        run = original(network, data, **options)
        trained.append({name.split(".")[0] for name in tl.changed(network, before)})
        rates.append(options["lr"])
        return run

    monkeypatch.setattr(finding, "fit", noting)
    run = tl.fit_in_stages(model, toy_data(), stages=(0, 1, 2), epochs=(1, 2, 1), lr=1e-2, keep="last", batch_size=8)
    assert trained == [{"fc"}, {"layer4", "fc"}, {"layer3", "layer4", "fc"}]
    assert rates[2]["head"] == pytest.approx(2.6 * rates[2]["layer4"]) == pytest.approx(2.6**2 * rates[2]["layer3"])
    assert list(run.history.index) == [1, 2, 3, 4]
    assert list(run.history["stage"]) == [1, 2, 2, 3]
    assert run.kept_epoch == 4
    with pytest.raises(tl.TrainingError, match="3 stages, but epochs for 2"):
        tl.fit_in_stages(model, toy_data(), epochs=(1, 2))


# --- steps ------------------------------------------------------------------------------------------------------


def weights_after(step: tl.Step, model: Any = None, **options: Any) -> Any:
    model = model if model is not None else tl.freeze(network())
    run = tl.fit(model, toy_data(20, 8, 4), step=step, **{**OPTIONS, **options})
    return model, run


def test_pieces_add_up_to_the_batch() -> None:
    whole, run = weights_after(tl.Step())
    for pieces in (2, 3, 8):
        model, other = weights_after(tl.Step(pieces=pieces))
        torch.testing.assert_close(model.fc.weight, whole.fc.weight, atol=1e-6, rtol=1e-5)
        assert other.history["train_loss"].to_numpy() == pytest.approx(run.history["train_loss"].to_numpy(), rel=1e-5)


def test_clipping_shortens_what_is_too_long() -> None:
    model = tl.freeze(network())
    before = model.fc.weight.detach().clone()
    weights_after(tl.Step(clip=1e-4), model, epochs=1, batch_size=20, lr=1.0, schedule="constant")
    moved = (model.fc.weight.detach() - before).norm()
    assert float(moved) <= 1.001e-4
    free, _ = weights_after(tl.Step(clip=1e4))
    plain, _ = weights_after(tl.Step())
    assert tl.changed(free, tl.snapshot(plain)) == []


def test_averaged_weights_are_those_of_the_formula_and_frozen_ones_stay() -> None:
    seen: list[torch.Tensor] = []
    model = tl.freeze(network())
    before = tl.snapshot(model)

    class Noting(SGD):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            seen.append(self.param_groups[-1]["params"][0].detach().clone())

    weights_after(tl.Step(average=0.5), model, optimizer=Noting)
    mean = seen[0]
    for weight in seen[1:]:
        mean = 0.5 * mean + 0.5 * weight
    torch.testing.assert_close(model.fc.weight.detach(), mean)
    assert {name.split(".")[0] for name in tl.changed(model, before)} == {"fc"}


def test_averages_with_batchnorm_that_moves() -> None:
    model, run = weights_after(tl.Step(average=0.9), network())
    assert math.isfinite(run.history["val_loss"].iloc[-1])
    score = tl.evaluate(model, toy_data(20, 8, 4).val)
    assert score.loss == pytest.approx(run.history["val_loss"].iloc[-1], rel=1e-4), "not the weights that were scored"


def test_mixing_and_smoothing_are_torchvisions_and_the_losss() -> None:
    mixed, run = weights_after(tl.Step(mix=v2.MixUp(num_classes=2)))
    again, _ = weights_after(tl.Step(mix=v2.MixUp(num_classes=2)))
    plain, _ = weights_after(tl.Step())
    assert tl.changed(mixed, tl.snapshot(again)) == [], "the same seed"
    assert tl.changed(mixed, tl.snapshot(plain)) == ["fc.weight", "fc.bias"]
    assert 0 <= run.history["train_accuracy"].iloc[0] <= 1
    smooth, _ = weights_after(tl.Step(), loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    assert tl.changed(smooth, tl.snapshot(plain)) == ["fc.weight", "fc.bias"]


def test_mixing_mixes_images_and_not_kept_activations() -> None:
    _, run = weights_after(tl.Step(mix=v2.MixUp(num_classes=2)), augment=False)
    assert not any("ran once" in note for note in run.notes)


@pytest.mark.parametrize("options", [{"pieces": 0}, {"clip": 0.0}, {"average": 1.0}])
def test_steps_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(tl.TrainingError, match="must be"):
        tl.Step(**options)


def test_training_ends_when_patience_does() -> None:
    ruin = functools.partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 1.0 if epoch < 1 else 0.0)
    run = tl.fit(tl.freeze(network()), toy_data(20, 8, 4), **{**OPTIONS, "epochs": 9}, schedule=ruin, patience=2)
    assert len(run.history) == run.best_epoch + 2
    assert f"none was better than epoch {run.best_epoch} since" in run.stopped
    with pytest.raises(tl.TrainingError, match="patience=0"):
        tl.fit(tl.freeze(network()), toy_data(), patience=0)
