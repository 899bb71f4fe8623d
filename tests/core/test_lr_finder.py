"""The learning-rate finder suggests a rate that trains, and leaves no trace."""

import pytest
import torch
from toy import toy_data, toy_network, untouched

import tlhelpers as tl
from tlhelpers import lr_finder


def find_without_a_trace(model, data):
    """The result of a trial, after checking that it changed nothing, even where it ends in an error."""
    state = torch.get_rng_state()
    try:
        with untouched(model):
            return tl.find_lr(model, data, batch_size=8, steps=20)
    finally:
        assert all(parameter.grad is None for parameter in model.parameters())
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("own_batches", [False, True])
def test_a_trial_leaves_no_trace(own_batches):
    model, data = toy_network(size=32).train(), toy_data(20, 8, 4)
    model.layer1.eval()
    if own_batches:
        data = dict.fromkeys(("train", "val"), [(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]))] * 3)
    result = find_without_a_trace(model, data)
    assert result.curve["lr"].is_monotonic_increasing
    assert "weights are as they were" in repr(result)


@pytest.mark.parametrize("error", [RuntimeError("the device is gone"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_trial_that_is_cut_off_leaves_no_trace(error, monkeypatch):
    epoch, calls = lr_finder.train_epoch, iter(range(5))

    def failing(*args, **kwargs):
        if next(calls, None) is None:
            raise error
        return epoch(*args, **kwargs)

    monkeypatch.setattr(lr_finder, "train_epoch", failing)
    with pytest.raises(type(error)):
        find_without_a_trace(toy_network(size=32), toy_data(20, 8, 4))


def test_the_suggested_learning_rate_trains_and_the_far_end_does_not():
    data = toy_data(40, 8, 4)
    data.train.labels = data.train.labels[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    result = tl.find_lr(toy_network(last=0), data, lr=1000.0, lowest=1e-8, batch_size=8, augment=False)
    assert result.suggestion <= result.highest
    assert len(result.curve) < 80, "it went on although the loss had exploded"
    assert "falls fastest" in result.plot().alt
    run = tl.fit(toy_network(last=0), toy_data(40, 8, 4), epochs=3, lr=result.suggestion, batch_size=8, augment=False)
    assert run.history["train_loss"].iloc[-1] < run.history["train_loss"].iloc[0]
