"""Frozen means frozen: parameters and buffers, for every family, in a plain loop and in the helper."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torchvision.models.feature_extraction import create_feature_extractor
from toy import cases, every_arch, refused, toy_data
from toy import toy_network as network

import tlhelpers as tl
from tlhelpers.models.families import get_blocks, get_head, head_path
from tlhelpers.models.freezing import is_frozen, train_mode


def plain_loop(model, optimizer, steps=2):
    """The loop of any tutorial, with the call of `train()` that undoes a careless freeze."""
    torch.manual_seed(0)
    for _ in range(steps):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.rand(4, 3, 64, 64)), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


def frozen_names(model, blocks):
    """Names in the state_dict of all that belongs to the blocks."""
    modules = [module for name in blocks for module in get_blocks(model)[name]]
    held = {id(tensor) for module in modules for tensor in module.state_dict(keep_vars=True).values()}
    return {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in held}


@every_arch
def test_half_frozen_in_a_plain_loop(arch):
    model = network(arch)
    blocks = list(get_blocks(model))
    frozen = blocks[: len(blocks) // 2]
    tl.freeze(model, up_to=frozen[-1])
    before = tl.snapshot(model)
    # All parameters go to the optimizer, with weight decay and momentum: none of it may reach a frozen one.
    plain_loop(model, SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1))
    changed = set(tl.changed(model, before))
    assert changed.isdisjoint(frozen_names(model, frozen))
    assert changed >= {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@every_arch
def test_all_frozen_in_the_helper_and_in_the_table(arch):
    model = tl.freeze(network(arch))
    before, table = tl.snapshot(model), tl.trainable_table(model)
    blocks = table.drop(index="total")["parameters"]
    assert table.loc["total", "parameters"] == blocks.sum() == sum(p.numel() for p in model.parameters())
    assert table.loc["total", "trainable"] == sum(p.numel() for p in get_head(model).parameters())
    tl.fit(model, toy_data(8, 4, 4), epochs=1, lr=0.1, batch_size=4)
    assert set(tl.changed(model, before)) == {f"{head_path(model)}.weight", f"{head_path(model)}.bias"}


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "mobilenet_v3_small", "efficientnet_lite0"])
def test_frozen_by_hand_drifts_in_a_plain_loop_but_not_in_the_helper(arch):
    model = network(arch).requires_grad_(False)
    get_head(model).requires_grad_(True)
    before = tl.snapshot(model)
    tl.fit(model, toy_data(8, 4, 4), epochs=1, batch_size=4)
    assert not [name for name in tl.changed(model, before) if "running" in name or "tracked" in name]
    plain_loop(model, AdamW(get_head(model).parameters()))
    drifted = [name for name in tl.changed(model, before) if name.endswith("running_mean")]
    assert drifted, "requires_grad=False is not known to stop BatchNorm; if it does now, the chapter is wrong"


@cases(
    "call",
    nn.Module.train,
    lambda m: nn.Sequential(m, nn.ReLU()).train(),
    lambda m: m.eval().train(),
    lambda m: [child.train() for child in m.modules()],
    train_mode,
)
def test_no_train_wakes_what_is_frozen(call):
    model = tl.freeze(network(), up_to="layer3")
    call(model)
    awake = {name for name, mode in modes(model).items() if mode}
    assert not any(name.startswith(("conv1", "bn1", "layer1", "layer2", "layer3")) for name in awake)
    assert {"layer4", "layer4.0.bn1", "fc"} <= awake


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_frozen_too_and_independent(duplicate):
    model = tl.freeze(network(), up_to="layer3")
    twin = duplicate(model)
    assert not twin.train().bn1.training
    assert tl.changed(twin, tl.snapshot(model)) == []
    tl.unfreeze(twin)
    assert (is_frozen(model.bn1), is_frozen(twin.bn1)) == (True, False)
    assert not model.conv1.weight.requires_grad


def test_freezing_changes_nothing_else():
    model, images = network(), torch.rand(2, 3, 64, 64)
    names, logits = list(model.state_dict()), model(images)
    tl.freeze(model)
    assert list(model.state_dict()) == names
    assert torch.equal(model(images), logits)
    traced = create_feature_extractor(model, ["avgpool"])(images)["avgpool"]
    assert torch.allclose(model.fc(traced.flatten(1)), logits, atol=1e-6)
    assert is_frozen(model.bn1)
    assert type(tl.unfreeze(model).train().bn1) is nn.BatchNorm2d
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(modes(model).values())


def test_freezing_again_sets_the_boundary_anew():
    model = tl.freeze(tl.freeze(network()), up_to="layer1")
    assert [block[0].conv1.weight.requires_grad for block in (model.layer1, model.layer2)] == [False, True]
    table = tl.trainable_table(tl.unfreeze(tl.freeze(model), last=2))
    assert table.index[table["trainable"] > 0].tolist() == ["layer3", "layer4", "head", "total"]
    assert table.loc[["layer2", "layer3", "head"], "batchnorm"].tolist() == ["frozen", "moves", "-"]


def test_a_network_of_no_family_can_be_frozen_by_its_modules():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()), nn.Flatten())
    tl.freeze_modules(model[0])
    model.train()
    assert modes(model) == {"": True, "0": False, "0.0": False, "0.1": False, "0.2": False, "1": True}
    tl.unfreeze_modules(model[0])
    assert all(modes(model.train()).values())


def test_a_block_unfrozen_inside_of_a_frozen_one_trains():
    model = tl.freeze(network())
    tl.unfreeze_modules(model.layer4[1])
    before = tl.snapshot(model)
    model.train()(torch.randn(4, 3, 64, 64))
    moved = {name.rpartition(".")[0] for name in tl.changed(model, before)}
    assert moved == {"layer4.1.bn1", "layer4.1.bn2"}
    assert not any(modes(model.eval()).values())


def test_a_left_over_gradient_moves_nothing():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    before = tl.snapshot(tl.freeze(model))
    optimizer.step()
    assert set(tl.changed(model, before)) == {"fc.weight", "fc.bias"}


def test_unknown_blocks_and_learning_rates_for_the_wrong_ones_get_help_and_change_nothing():
    model = network()
    refused(tl.ModelError, r"block 'layer_3' .*Did you mean 'layer3'", tl.freeze, model, up_to="layer_3")
    refused(tl.ModelError, "has 5 blocks: stem, layer1", tl.unfreeze, model, last=6)
    assert all(parameter.requires_grad for parameter in model.parameters())
    tl.freeze(model, up_to="layer3")
    right = {"layer4": 1, "head": 1}
    for rates, wrong in ((right | {"layer9": 1}, "layer9"), (right | {"stem": 1}, "stem"), ({"head": 1}, "layer4")):
        sentence = rf"trainable are layer4, head,.* unknown, frozen or missing: {wrong}\."
        refused(tl.ModelError, sentence, tl.param_groups, model, rates)


def test_a_snapshot_on_another_device_can_be_compared():
    layer = nn.Linear(2, 2)
    before = {name: SimpleNamespace(cpu=lambda tensor=tensor: tensor) for name, tensor in tl.snapshot(layer).items()}
    assert tl.changed(layer, before) == []
    nn.init.zeros_(layer.weight)
    assert tl.changed(layer, before) == ["weight"]


def test_groups_hold_what_trains_with_learning_rates_that_fall_towards_the_input():
    model = tl.freeze(network(), up_to="layer2")
    groups = tl.param_groups(model, 1e-2, factor=0.1)
    assert [group["name"] for group in groups] == ["layer3", "layer4", "head"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-3, 1e-2])
    held = {id(p) for group in groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    by_name = tl.param_groups(model, {"layer3": 1.0, "layer4": 2.0, "head": 3.0})
    assert [group["lr"] for group in by_name] == [1.0, 2.0, 3.0]
