"""The frozen prefix: the first part of a network, which computes the same for an image in every epoch.

It ends at the last tensor through which everything must pass before anything changes; torch.fx finds it. Both pieces
share the network's modules: what trains in a piece trains in the network.
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules import activation, pooling
from torchvision.ops import stochastic_depth

from tlhelpers.models.freezing import preserve_modes, train_mode

# Layers and functions that compute the same in training as in evaluation, given that their parameters do not move.
_FIXED_FILES = {f"torch.nn.modules.{name}" for name in ("activation", "conv", "flatten", "linear", "padding")}
_FIXED_FILES.add("timm.layers.adaptive_avgmax_pool")
_FIXED = (nn.MaxPool2d, nn.AvgPool2d, pooling._AdaptiveAvgPoolNd, pooling._AdaptiveMaxPoolNd, nn.Upsample)
_RANDOM = (nn.RReLU, activation.MultiheadAttention)
_FIXED_CALLS = {
    *(operator.add, operator.mul, operator.sub, operator.truediv, operator.floordiv, operator.eq, operator.getitem),
    *(torch.add, torch.mul, torch.cat, torch.flatten, torch.mean, torch.permute, torch.relu, torch.sigmoid),
    *(functional.relu, functional.gelu, functional.silu, functional.adaptive_avg_pool2d, functional.avg_pool2d),
    *(functional.layer_norm, torch._assert, getattr),
    *("add", "mul", "mean", "flatten", "view", "reshape", "permute", "expand", "contiguous", "relu", "dim", "size"),
}
# Functions that are random unless training=False; the number is the position of that argument.
_RANDOM_IN_TRAINING: dict[Any, int] = {stochastic_depth: 3, functional.dropout: 2}


@dataclass(frozen=True)
class SplitModel:
    """A network cut in two."""

    frozen: nn.Module  # images -> activations; nothing in it changes; to be called in evaluation mode
    trainable: nn.Module  # activations -> logits; its trainable parameters are the network's own
    boundary: str  # path of the layer whose output is the activations ("layer3", "avgpool")


def split_at_frozen_prefix(model: nn.Module) -> SplitModel | None:
    """Cut a network just below what training changes; None if that is its beginning, or if torch.fx cannot follow it.

    Trainable parameters, BatchNorm that is not frozen, dropout and other random layers in training mode count as
    changing. So does a layer that is not known: then less is cached than could be, never more.
    """
    with preserve_modes(model):
        try:
            train_mode(model)
            training = _Tracer().trace(model)
            if (cut := _last_fixed(training, model)) is None:
                return None
            model.eval()
            evaluation = _Tracer().trace(model)
        except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError):
            return None  # its `forward` depends on the data, say
    if [node.name for node in training.nodes] != [node.name for node in evaluation.nodes]:
        return None
    frozen = fx.GraphModule(model, _copy(evaluation, end=cut), "Frozen")
    if not list(frozen.parameters()):
        return None  # nothing worth computing once
    trainable = _Trainable(*(fx.GraphModule(model, _copy(g, start=cut), "Trainable") for g in (training, evaluation)))
    node = list(training.nodes)[cut]
    return SplitModel(frozen, trainable, str(node.target) if node.op == "call_module" else node.name)


class _Trainable(nn.Module):
    """The part after the cut: a graph for each mode, since functional dropout is fixed when a graph is traced."""

    def __init__(self, training: nn.Module, evaluation: nn.Module) -> None:
        super().__init__()
        self.in_training, self.in_evaluation = training, evaluation

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return (self.in_training if self.training else self.in_evaluation)(activations)


class _Tracer(fx.Tracer):
    """Follows `forward` down to the layers of PyTorch and timm."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or type(m).__module__.startswith("timm.layers")


def _last_fixed(graph: fx.Graph, model: nn.Module) -> int | None:
    """Index of the last node, before any that changes, on which alone all later nodes depend."""
    number = {node: i for i, node in enumerate(graph.nodes)}
    found, furthest = None, 0  # the furthest use of any value computed so far
    for node, i in number.items():
        if _changes(node, model):
            return found
        last_use = max((number[user] for user in node.users), default=i)
        if i > 0 and furthest <= i < last_use:  # nothing computed earlier is used later
            found = i
        furthest = max(furthest, last_use)
    return found


def _changes(node: fx.Node, model: nn.Module) -> bool:
    """True if training or randomness can change the node's output."""
    if node.op == "call_module":
        return not all(_is_fixed(module) for module in model.get_submodule(str(node.target)).modules())
    if node.op == "get_attr":
        tensor: Any = operator.attrgetter(str(node.target))(model)
        return not isinstance(tensor, torch.Tensor) or tensor.requires_grad
    if node.op == "call_function" and node.target in _RANDOM_IN_TRAINING:
        position = _RANDOM_IN_TRAINING[node.target]
        return node.kwargs.get("training", node.args[position] if len(node.args) > position else True) is not False
    if node.op in ("call_function", "call_method"):
        return node.target not in _FIXED_CALLS
    return node.op != "placeholder"


def _is_fixed(module: nn.Module) -> bool:
    trains = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    known = type(module).__module__ in _FIXED_FILES or isinstance(module, _FIXED)
    return not trains and (not module.training or (known and not isinstance(module, _RANDOM)))


def _copy(graph: fx.Graph, start: int = -1, end: int | None = None) -> fx.Graph:
    """The nodes after number `start` up to number `end` as a new graph; node `start` becomes its input."""
    nodes, new, copied = list(graph.nodes), fx.Graph(), {}
    if start >= 0:
        copied[nodes[start]] = new.placeholder("activations")
    for node in nodes[start + 1 : None if end is None else end + 1]:
        copied[node] = new.node_copy(node, copied.__getitem__)
    if end is not None:
        new.output(copied[nodes[end]])
    return new
