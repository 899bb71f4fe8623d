"""The freeze boundary: where in a network the part ends that training cannot change.

Below the lowest trainable parameter a network computes the same for an image in every epoch, so that this needs to
be computed once only. `split_at_boundary` follows the network's own `forward` with torch.fx, finds the last tensor
through which everything must pass before anything changes, and cuts there. Both halves share the network's modules:
what trains in the upper half trains in the network.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules import activation, pooling
from torchvision.ops import stochastic_depth

from tlhelpers.models.freezing import train_mode
from tlhelpers.models.modes import preserve_modes

# Layers that compute the same in training as in evaluation, given that their parameters do not move.
_STILL_FILES = (
    *(f"torch.nn.modules.{name}" for name in ("activation", "conv", "flatten", "linear", "padding")),
    "timm.layers.adaptive_avgmax_pool",
)
_STILL = (nn.MaxPool2d, nn.AvgPool2d, pooling._AdaptiveAvgPoolNd, pooling._AdaptiveMaxPoolNd, nn.Upsample, nn.ZeroPad2d)
_RANDOM = (nn.RReLU, activation.MultiheadAttention)
_STILL_CALLS = {
    *(operator.add, operator.mul, operator.sub, operator.truediv, operator.getitem, getattr),
    *(torch.add, torch.mul, torch.cat, torch.flatten, torch.mean, torch.relu, torch.sigmoid),
    *(functional.relu, functional.gelu, functional.silu, functional.adaptive_avg_pool2d, functional.avg_pool2d),
    *("add", "mul", "mean", "flatten", "view", "reshape", "permute", "contiguous", "relu", "size"),
}

# Functions that draw random numbers unless their argument `training`, at this position, says otherwise.
_SWITCHED: dict[Any, int] = {stochastic_depth: 3, functional.dropout: 2}


@dataclass(frozen=True)
class Halves:
    """A network cut in two.

    Attributes:
        lower: images -> activations; nothing in it changes. To be called in evaluation mode.
        upper: activations -> logits; its trainable parameters are the network's own.
        boundary: the layer whose output is the activations, by its path in the network ("layer3", "avgpool").
    """

    lower: nn.Module
    upper: nn.Module
    boundary: str


def split_at_boundary(model: nn.Module) -> Halves | None:
    """Cut a network just below what training changes; None if that is its very beginning, or it cannot be followed.

    Parameters that train, BatchNorm that moves, dropout and other random layers in training mode count as changing.
    A layer that is not known to be without state or chance counts too: then less is cached than could be, never more.
    """
    with preserve_modes(model):
        try:
            train_mode(model)
            training = _Tracer().trace(model)
            still = _last_still(training, model)
            if still is None:
                return None
            model.eval()
            evaluation = _Tracer().trace(model)
        except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError):
            return None  # its `forward` depends on the data, say
    if [node.name for node in training.nodes] != [node.name for node in evaluation.nodes]:
        return None
    cut = list(training.nodes)[still]
    lower = fx.GraphModule(model, _copied(evaluation, end=still), "Lower")
    upper = _Upper(*(fx.GraphModule(model, _copied(graph, start=still), "Upper") for graph in (training, evaluation)))
    if not list(lower.parameters()):
        return None  # nothing worth keeping
    return Halves(lower, upper, str(cut.target) if cut.op == "call_module" else cut.name)


class _Upper(nn.Module):
    """The upper half; the functional dropouts of a `forward` need a graph of their own for each mode."""

    def __init__(self, training: nn.Module, evaluation: nn.Module) -> None:
        super().__init__()
        self.in_training, self.in_evaluation = training, evaluation

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return (self.in_training if self.training else self.in_evaluation)(activations)


class _Tracer(fx.Tracer):
    """Follows `forward` down to PyTorch's and timm's own layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or type(m).__module__.startswith("timm.layers")


def _last_still(graph: fx.Graph, model: nn.Module) -> int | None:
    """Number of the last node before anything changes that alone carries all that comes after it."""
    nodes = list(graph.nodes)
    number = {node: i for i, node in enumerate(nodes)}
    found, furthest = None, 0  # the furthest use of any value made so far
    for i, node in enumerate(nodes):
        if _changes(node, model):
            return found
        uses = max((number[user] for user in node.users), default=i)
        if i > 0 and furthest <= i < uses:  # nothing made earlier is used later
            found = i
        furthest = max(furthest, uses)
    return found


def _changes(node: fx.Node, model: nn.Module) -> bool:
    """Whether training changes what a node computes, or chance does."""
    if node.op == "call_module":
        return not all(_is_still(module) for module in model.get_submodule(str(node.target)).modules())
    if node.op == "get_attr":
        tensor: Any = operator.attrgetter(str(node.target))(model)
        return not isinstance(tensor, torch.Tensor) or tensor.requires_grad
    if node.op == "call_function" and node.target in _SWITCHED:
        position = _SWITCHED[node.target]
        return node.kwargs.get("training", node.args[position] if len(node.args) > position else True) is not False
    if node.op in ("call_function", "call_method"):
        return node.target not in _STILL_CALLS
    return node.op != "placeholder"


def _is_still(module: nn.Module) -> bool:
    if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        return False
    if not module.training:
        return True
    known = type(module).__module__ in _STILL_FILES or isinstance(module, _STILL)
    return known and not isinstance(module, _RANDOM)


def _copied(graph: fx.Graph, start: int = -1, end: int | None = None) -> fx.Graph:
    """The nodes after number `start` up to number `end`, as a graph of its own; node `start` becomes its input."""
    nodes, new, known = list(graph.nodes), fx.Graph(), {}
    if start >= 0:
        known[nodes[start]] = new.placeholder("activations")
    for node in nodes[start + 1 : None if end is None else end + 1]:
        known[node] = new.node_copy(node, known.__getitem__)
    if end is not None:
        new.output(known[nodes[end]])
    return new
