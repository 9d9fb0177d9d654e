"""Weights that another program saved become a version: a bare state_dict, never a pickled module.

Unpickling a module runs whatever code its file names, so such a file is refused with the way to save it again.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from models import registry
from models.preprocessing import MEAN, STD
from training.assessment import assess
from training.config import ImportConfig
from training.data import load_cifar10
from training.device import hardware_name, select_device
from training.errors import WeightsRefused
from training.publication import Published, check_writable, code_revision, describe_training, publish_network

_State = dict[str, torch.Tensor]
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")


def import_weights(config: ImportConfig) -> Published:
    """Publish the weights in a file as the next version of a model; return what was published.

    Raises:
        WeightsRefused: the file holds no plain state_dict, or one that does not fit the architecture.
        UnknownArchitecture: no network of that name is registered.
        DataMissing: the data set is not where it was said to be.
        OSError: the file cannot be read, or the repository cannot be written.
    """
    network = registry.build(config.architecture)
    fitted = fit_names(read_state(config.file), network.state_dict(), path=config.file)
    network.load_state_dict(fitted)
    if config.mean is not None and config.std is not None:
        absorb_normalization(network, mean=config.mean, std=config.std)
    model = config.model or config.architecture
    check_writable(config.repository, model)
    device = select_device(config.device)
    data = load_cifar10(config.data, validation_images=config.validation_images, seed=config.seed, download=False).to(
        device
    )
    network = network.to(device).to(memory_format=torch.channels_last)
    training = describe_training(
        {
            "architecture": config.architecture,
            "imported_from": config.file.name,
            "seed": config.seed,
            "validation_images": config.validation_images,
        },
        seconds=0.0,
        hardware=hardware_name(device),
        data_digest=data.digest,
        revision=code_revision(),
    )
    return publish_network(
        network,
        repository=config.repository,
        model=model,
        architecture=config.architecture,
        assessment=assess(network, data),
        training=training,
    )


def read_state(path: Path) -> _State:
    """Return the state_dict in a file, on the CPU wherever it was saved; nothing in the file is executed.

    Raises:
        WeightsRefused: the file holds something else.
        OSError: it cannot be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as exc:  # bytes that are no checkpoint make torch raise whatever it stumbles over
        raise WeightsRefused(
            f"{path}: is not a plain state_dict; a whole pickled module is never unpickled, save its weights where it "
            "was made: torch.save(net.state_dict(), 'weights.pth')"
        ) from exc
    if isinstance(content, Mapping):
        # training loops save the weights beside the optimizer's
        content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items())
    ):
        raise WeightsRefused(f"{path}: expected tensors by name, as net.state_dict() gives them")
    return dict(content)


def fit_names(found: _State, expected: Mapping[str, torch.Tensor], *, path: Path) -> _State:
    """Return `found` under the names of `expected`: without the prefix that a wrapper or an attribute put before all.

    Raises:
        WeightsRefused: a name or a shape differs.
    """
    while not found.keys() & expected.keys() and len(prefixes := {name.split(".")[0] for name in found}) == 1:
        length = len(prefixes.pop()) + 1
        if any(len(name) < length for name in found):
            break
        found = {name[length:]: value for name, value in found.items()}
    for name, value in expected.items():
        if name not in found:
            raise WeightsRefused(f"{path}: expected {name} {_shape(value)}, got only {', '.join(sorted(found)[:6])}")
        if found[name].shape != value.shape:
            raise WeightsRefused(f"{path}: expected {name} {_shape(value)}, got {_shape(found[name])}")
    if surplus := found.keys() - expected.keys():
        raise WeightsRefused(f"{path}: holds {min(surplus)}, which the architecture does not have")
    return found


@torch.no_grad()
def absorb_normalization(network: nn.Module, *, mean: float, std: float) -> None:
    """Change the first layer so that the network takes pictures normalized as this release does it, in place.

    Exact but for a padded convolution's border, which is then padded with the mean of the pictures.

    Args:
        network: trained on pictures of 0..1 from which `mean` was subtracted and which were divided by `std`.
        mean: of all three colours.
        std: likewise.
    """
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    scale = torch.tensor(STD) / std
    offset = (torch.tensor(MEAN) - mean) / std
    weight = first.weight.reshape(len(first.weight), 3, -1)
    shift = torch.einsum("oci,c->o", weight, offset)
    first.weight.copy_((weight * scale[:, None]).reshape(first.weight.shape))
    if first.bias is None:
        raise WeightsRefused("--mean, --std: expected a first layer with a bias")
    first.bias.add_(shift)


def _shape(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))
