"""What a network's graph says about its layers, for networks that are no chain of layers."""

from torch import fx, nn


def normalized_convolutions(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d, str]]:
    """Return each convolution whose output goes to a BatchNorm2d and nowhere else, with that layer and its name."""
    modules = dict(network.named_modules())
    if not any(isinstance(module, nn.BatchNorm2d) for module in modules.values()):
        return []  # most networks: tracing takes a while
    found = []
    for node in _Tracer().trace(network).nodes:
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        convolution = modules.get(before.target) if before.op == "call_module" else None
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            found.append((convolution, norm, node.target))
    return found


class _Tracer(fx.Tracer):
    """Takes every convolution as one step, also one that training has put in the place of PyTorch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether what a module computes inside is of no interest."""
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)
