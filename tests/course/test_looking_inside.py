"""Looking inside networks: outputs of layers, peaks, made images, and features in numbers, against values by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from toy import refused, untouched

import tlcourse as tc
import tlhelpers as tl
from tlcourse.looking_inside import activations
from tlhelpers.models.families import ARCHS
from tlhelpers.models.loading import build


@pytest.fixture(scope="module")
def network():
    return tl.load_model("resnet18")


@pytest.fixture(scope="module")
def images():
    return torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_every_block_ends_in_what_the_network_itself_computes(network, images):
    maps = tc.activations(network, images)
    assert list(maps) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    with torch.no_grad():
        x = network.relu(network.bn1(network.conv1(images)))
        torch.testing.assert_close(maps["stem"], x, atol=1e-4, rtol=1e-4)  # after its ReLU
        x = network.layer2(network.layer1(network.maxpool(x)))
        torch.testing.assert_close(maps["layer2"], x, atol=1e-4, rtol=1e-4)
        pooled = tc.pooled_features(network, images)
        torch.testing.assert_close(network.fc(pooled["layer4"]), network(images), atol=1e-4, rtol=1e-4)
    for name, values in pooled.items():
        torch.testing.assert_close(values, maps[name].mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)


def test_batches_make_no_difference(network, images, monkeypatch):
    at_once = tc.pooled_features(network, images)
    monkeypatch.setattr(activations, "BATCH", 2)
    torch.testing.assert_close(tc.pooled_features(network, images), at_once, atol=1e-5, rtol=1e-5)


def test_looking_changes_nothing(images):
    model = tl.load_model("resnet18").train()
    model.layer1.eval()
    with untouched(model):
        tc.activations(model, images)
        tc.exciting_images(model, "layer1", [0], steps=2)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_layers_by_name_and_by_another_name_and_those_that_are_unknown(network, images):
    found = tc.activations(network, images[:1], {"layer3.0.conv1": "inside", "avgpool": "end"})
    assert {name: values.shape for name, values in found.items()} == {"inside": (1, 256, 4, 4), "end": (1, 512, 1, 1)}
    unknown = r"ResNet has no layer 'layer5'.*stem, layer1, layer2, layer3, layer4"
    refused(tl.ModelError, unknown, tc.activations, network, images, ["layer5"])


@pytest.mark.parametrize("name", ["resnet18", "vgg16_gap", "densenet121", "mobilenet_v3_small", "efficientnet_lite0"])
def test_blocks_of_every_family_can_be_looked_at(name):
    model = build(ARCHS[name]).eval()
    pooled = tc.pooled_features(model, torch.zeros(1, 3, 64, 64))
    assert list(pooled) == list(activations.block_ends(model).values())
    assert all(values.ndim == 2 for values in pooled.values())


def test_made_images_excite_their_own_channel(network):
    preprocessing, channels = network.card.preprocessing, [3, 7]
    made, noise, again, other = (
        tc.exciting_images(network, "layer2", channels, steps=steps, seed=seed)
        for steps, seed in ((25, 1), (0, 1), (25, 1), (25, 2))
    )
    assert made.shape == (2, 3, 64, 64)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    found = (tc.pooled_features(network, (shown - mean) / std, ["layer2"]) for shown in (made, noise))
    answers, before = (maps["layer2"][:, channels] for maps in found)
    assert (answers.diagonal() > 2 * before.diagonal() + 0.1).all()
    assert (answers.diagonal() > answers.flip(0).diagonal()).all()  # the other image excites it less
    assert torch.equal(made, again)
    assert not torch.equal(made, other)


def test_cka_agrees_with_the_mean_over_quadruples():
    """Song et al. define the estimator as a mean over all ordered choices of 4 different images."""
    a, b = np.split(np.random.default_rng(0).normal(size=(6, 5)), [3], axis=1)

    def slow(k, m):
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)]
        return float(np.mean(terms))

    k, m = ((x - x.mean(0)) @ (x - x.mean(0)).T for x in (a, b))
    assert tc.linear_cka(a, b) == pytest.approx(slow(k, m) / np.sqrt(slow(k, k) * slow(m, m)))


def test_cka_ignores_rotation_scale_and_shift_and_nothing_else():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 8)), rng.normal(size=(30, 5))
    b[:, :3] += a[:, :3]
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    order, stretch = rng.permutation(30), np.array([10, *[1] * 7])
    value = tc.linear_cka(a, b)
    assert 0.1 < value < 0.9
    for same in ((3 * a @ rotation + 5, b), (b, a), (a[order], b[order]), (torch.from_numpy(a), b)):
        assert tc.linear_cka(*same) == pytest.approx(value)
    assert tc.linear_cka(a, 3 * a @ rotation + 5) == pytest.approx(1)
    assert abs(tc.linear_cka(a[order], b) - value) > 0.05  # other images beside each other
    assert abs(tc.linear_cka(stretch * a, a) - 1) > 0.05  # Kornblith et al. want this to count


def blobs(count, seed):
    """Three kinds of points, apart from each other in the first two of six features."""
    labels = np.arange(count) % 3
    points = np.random.default_rng(seed).normal(size=(count, 6))
    points[:, :2] += 6 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return points, labels


def test_a_probe_finds_what_is_there_and_nothing_that_is_not():
    (x, y), (x_test, y_test) = blobs(90, 0), blobs(300, 1)
    assert tc.linear_probe(*map(torch.from_numpy, (x, y, x_test, y_test))) > 0.97
    assert tc.linear_probe(x[:, 2:], y, x_test[:, 2:], y_test) < 0.5  # only noise is left: about a third
    assert tc.linear_probe(x, y, x_test, (y_test + 1) % 3) < 0.03


def test_selectivity_of_stripes_is_high_whatever_their_direction_and_of_blobs_low():
    down, across = np.mgrid[:7, :7] - 3

    def grating(angle):
        wave = np.cos(2 * np.pi * 0.25 * (across * np.cos(angle) + down * np.sin(angle)))
        return wave * np.exp(-(down**2 + across**2) / 8)

    stripes = np.stack([[grating(angle)] * 3 for angle in np.linspace(0, np.pi, 8)])
    found = tc.orientation_selectivity(stripes)
    assert found.min() > 0.8
    assert np.ptp(found) < 0.1  # a square grid hardly prefers a direction
    assert tc.orientation_selectivity(torch.from_numpy(1e-6 * stripes).requires_grad_()) == pytest.approx(found)
    blob, cross = np.exp(-(down**2 + across**2) / 4.0), grating(0) + grating(np.pi / 2)
    assert tc.orientation_selectivity(np.stack([blob, cross, 0 * blob])[:, None]).max() < 0.02
