"""Frozen means frozen: parameters and buffers, for every family, in a plain loop and in the helper."""

from __future__ import annotations

import contextlib
import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from toy import toy_data

import tlhelpers as tl
from tlhelpers.models.families import ARCHS, get_blocks, get_head, head_path
from tlhelpers.models.freezing import Frozen, train_mode
from tlhelpers.models.modes import evaluation_mode

EVERY_ARCH = pytest.mark.parametrize("arch", list(ARCHS))
WITH_BATCHNORM = pytest.mark.parametrize("arch", [name for name in ARCHS if name not in ("vgg16", "vgg16_gap")])


def network(arch: str) -> nn.Module:
    return tl.load_model(arch, classes=["red", "green"], weights="none", size=64)


def plain_loop(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    """The loop of any tutorial, with the call of `train()` that undoes a careless freeze."""
    torch.manual_seed(0)
    for _ in range(steps):
        model.train()
        images, labels = torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 0, 1])
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def names_below(model: nn.Module, blocks: list[str]) -> set[str]:
    """Names in the state_dict of all that belongs to the blocks."""
    members = {id(m) for name in blocks for module in get_blocks(model)[name] for m in module.modules()}
    return {
        f"{path}.{name}".removeprefix(".")
        for path, module in model.named_modules()
        if id(module) in members
        for name in (*dict(module.named_parameters(recurse=False)), *dict(module.named_buffers(recurse=False)))
    }


@EVERY_ARCH
@pytest.mark.parametrize("depth", ["all", "half"])
def test_frozen_in_a_plain_loop(arch: str, depth: str) -> None:
    model = network(arch)
    blocks = list(get_blocks(model))
    frozen = blocks if depth == "all" else blocks[: len(blocks) // 2]
    tl.freeze(model, up_to=frozen[-1])
    before = tl.snapshot(model)
    # All parameters go to the optimizer, with weight decay and momentum: none of it may reach a frozen one.
    plain_loop(model, SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1))
    changed = set(tl.changed(model, before))
    assert changed.isdisjoint(names_below(model, frozen))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed >= trainable, "what was to train did not"


@EVERY_ARCH
def test_frozen_in_the_helper(arch: str) -> None:
    model = network(arch)
    tl.freeze(model)
    before = tl.snapshot(model)
    tl.fit(model, toy_data(8, 4, 4), epochs=1, lr=0.1, batch_size=4)
    head = head_path(model)
    assert set(tl.changed(model, before)) == {f"{head}.weight", f"{head}.bias"}


@WITH_BATCHNORM
def test_frozen_by_hand_drifts_in_a_plain_loop_but_not_in_the_helper(arch: str) -> None:
    model = network(arch)
    for block in get_blocks(model).values():
        for parameter in (p for module in block for p in module.parameters()):
            parameter.requires_grad = False
    before = tl.snapshot(model)
    tl.fit(model, toy_data(8, 4, 4), epochs=1, batch_size=4)
    assert not [name for name in tl.changed(model, before) if "running" in name or "tracked" in name]
    plain_loop(model, AdamW(get_head(model).parameters()))
    drifted = [name for name in tl.changed(model, before) if name.endswith("running_mean")]
    assert drifted, "requires_grad=False is not known to stop BatchNorm; if it does now, the chapter is wrong"


def test_how_much_of_the_statistics_remains_after_50_steps() -> None:
    layer = nn.BatchNorm2d(1)  # momentum 0.1
    layer.running_mean.fill_(1.0)
    for parameter in layer.parameters():
        parameter.requires_grad = False
    layer.train()
    for _ in range(50):
        layer(torch.zeros(2, 1, 4, 4))
    assert float(layer.running_mean) == pytest.approx(0.9**50, rel=1e-4)
    assert 0.004 < float(layer.running_mean) < 0.006, "the text says: 0.5 %"


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.train(),
        lambda m: m.train(True),
        lambda m: nn.Sequential(m, nn.ReLU()).train(),
        lambda m: m.eval().train(),
        lambda m: [child.train() for child in m.modules()],
        lambda m: train_mode(m),
    ],
)
def test_no_train_wakes_what_is_frozen(call: object) -> None:
    model = tl.freeze(network("resnet18"), up_to="layer3")
    call(model)  # type: ignore[operator]
    awake = {name for name, mode in modes(model).items() if mode}
    assert not any(name.startswith(("conv1", "bn1", "layer1", "layer2", "layer3")) for name in awake)
    assert {"layer4", "layer4.0.bn1", "fc"} <= awake


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_frozen_too_and_independent(duplicate: object) -> None:
    model = tl.freeze(network("resnet18"), up_to="layer3")
    twin = duplicate(model)  # type: ignore[operator]
    twin.train()
    assert not twin.bn1.training
    assert tl.changed(twin, tl.snapshot(model)) == []
    tl.unfreeze(twin)
    assert isinstance(model.bn1, Frozen)
    assert not isinstance(twin.bn1, Frozen)
    assert not model.conv1.weight.requires_grad


def test_freezing_changes_nothing_else() -> None:
    model = network("resnet18").eval()
    images = torch.rand(2, 3, 64, 64)
    names, logits = list(model.state_dict()), model(images)
    tl.freeze(model)
    assert list(model.state_dict()) == names
    assert torch.equal(model(images), logits)
    assert isinstance(model.bn1, nn.BatchNorm2d)
    assert "FrozenBatchNorm2d" in repr(model)
    tl.unfreeze(model)
    assert type(model.bn1) is nn.BatchNorm2d
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.train()
    assert all(modes(model).values())


def test_freezing_again_sets_the_boundary_anew() -> None:
    model = network("resnet18")
    tl.freeze(model)
    tl.freeze(model, up_to="layer1")
    assert model.layer2[0].conv1.weight.requires_grad
    assert not model.layer1[0].conv1.weight.requires_grad
    tl.freeze(model)
    tl.unfreeze(model, last=2)
    table = tl.trainable_table(model)
    assert [name for name in table.index if table.loc[name, "trainable"]] == ["layer3", "layer4", "head", "total"]
    assert table.loc["layer3", "batchnorm"] == "moves"
    assert table.loc["layer2", "batchnorm"] == "frozen"


@EVERY_ARCH
def test_table_adds_up(arch: str) -> None:
    model = tl.freeze(network(arch))
    table = tl.trainable_table(model)
    parts = table.drop(index="total")
    assert table.loc["total", "parameters"] == parts["parameters"].sum() == sum(p.numel() for p in model.parameters())
    assert table.loc["total", "trainable"] == sum(p.numel() for p in get_head(model).parameters())


def test_a_traced_backbone_still_works_when_frozen() -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    model = tl.freeze(network("resnet18"))
    images = torch.rand(2, 3, 64, 64)
    features = create_feature_extractor(model, ["avgpool"])(images)["avgpool"].flatten(1)
    assert torch.allclose(model.fc(features), model(images), atol=1e-6)


def test_a_network_of_no_family_can_be_frozen_by_its_modules() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()), nn.Flatten())
    tl.freeze_modules(model[0])
    model.train()
    assert not model[0][1].training
    assert not model[0][2].training
    tl.unfreeze_modules(model[0])
    model.train()
    assert model[0][2].training


def test_a_left_over_gradient_moves_nothing() -> None:
    model = network("resnet18")
    optimizer = SGD(model.parameters(), lr=0.1)
    model.eval()(torch.rand(2, 3, 64, 64)).sum().backward()
    tl.freeze(model)
    before = tl.snapshot(model)
    optimizer.step()
    assert set(tl.changed(model, before)) == {"fc.weight", "fc.bias"}


def test_unknown_blocks_get_help() -> None:
    model = network("resnet18")
    with pytest.raises(tl.ModelError, match="Did you mean 'layer3'"):
        tl.freeze(model, up_to="layer_3")
    with pytest.raises(tl.ModelError, match="has 5 blocks: stem, layer1"):
        tl.unfreeze(model, last=6)
    assert all(parameter.requires_grad for parameter in model.parameters()), "an error changed the model"


def test_evaluation_gives_every_mode_back() -> None:
    model = network("resnet18").train()
    model.bn1.eval()
    model.layer2.eval()
    before = modes(model)
    with evaluation_mode(model):
        assert not any(modes(model).values())
    assert modes(model) == before
    with contextlib.suppress(KeyError), evaluation_mode(model):
        raise KeyError
    assert modes(model) == before


# --- what optimizers do with frozen parameters -------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, momentum=0.9), lambda p: AdamW(p, 0.1)])
def test_frozen_parameters_given_to_an_optimizer_cost_no_state(make: object) -> None:
    model = tl.freeze(network("resnet18"))
    optimizer = make(model.parameters())  # type: ignore[operator]
    plain_loop(model, optimizer, steps=1)
    assert set(optimizer.state) == set(model.fc.parameters())


def test_train_then_freeze_leaves_momentum_that_zeroed_gradients_let_act() -> None:
    layer = nn.Linear(2, 2)
    optimizer = SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    layer.requires_grad_(False)
    before = layer.weight.clone()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    assert not torch.equal(layer.weight, before), "gradients of zero let momentum go on"
    before = layer.weight.clone()
    optimizer.zero_grad(set_to_none=True)
    optimizer.step()
    assert torch.equal(layer.weight, before), "no gradient at all does not"


# --- parameter groups --------------------------------------------------------------------------------------------


def test_groups_hold_what_trains_with_rates_that_fall_towards_the_input() -> None:
    model = tl.freeze(network("resnet18"), up_to="layer2")
    groups = tl.param_groups(model, 1e-2, factor=0.1)
    assert [group["name"] for group in groups] == ["layer3", "layer4", "head"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-3, 1e-2])
    held = {id(p) for group in groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    by_name = tl.param_groups(model, {"layer3": 1.0, "layer4": 2.0, "head": 3.0})
    assert [group["lr"] for group in by_name] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"layer4": 1.0, "head": 1.0, "layer9": 1.0}, "layer9 are unknown"),
        ({"layer4": 1.0, "head": 1.0, "stem": 1.0}, "stem are frozen"),
        ({"head": 1.0}, "layer4 are trainable, but have no learning rate"),
    ],
)
def test_rates_for_the_wrong_block(rates: dict[str, float], message: str) -> None:
    model = tl.freeze(network("resnet18"), up_to="layer3")
    with pytest.raises(tl.ModelError, match=message):
        tl.param_groups(model, rates)


def test_a_part_unfrozen_inside_of_a_frozen_one_trains() -> None:
    model = tl.freeze(tl.load_model("resnet18", num_classes=2, weights="none", size=64))
    tl.unfreeze_modules(model.layer4[1])
    model.train()
    training = {name for name, m in model.named_modules() if m.training and isinstance(m, (nn.Conv2d, nn.BatchNorm2d))}
    assert training == {f"layer4.1.{kind}{number}" for kind in ("conv", "bn") for number in (1, 2)}
    before = tl.snapshot(model)
    model(torch.randn(4, 3, 64, 64))
    assert tl.changed(model, before) != []
    assert all(name.startswith("layer4.1.bn") for name in tl.changed(model, before))
    model.eval()
    assert not any(m.training for m in model.modules())
