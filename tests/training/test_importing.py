import re
from pathlib import Path

import pytest
import torch
from torch import nn

from models import checkpoint, registry
from models.preprocessing import MEAN, STD, normalize
from training.config import ImportConfig
from training.errors import WeightsRefused
from training.importing import absorb_normalization, fit_names, import_weights, read_state


@pytest.fixture
def lenet() -> nn.Module:
    torch.manual_seed(0)
    return registry.build("lenet").eval()


def config_for(file: Path, data: Path, repository: Path) -> ImportConfig:
    return ImportConfig(
        file=file, architecture="lenet", repository=repository, data=data, validation_images=50, device="cpu"
    )


def test_state_dict_becomes_a_version(lenet: nn.Module, tiny_cifar10: Path, tmp_path: Path) -> None:
    """What a tutorial saved is published with a card, and computes what it computed there."""
    torch.save(lenet.state_dict(), tmp_path / "lenet.pth")

    published = import_weights(config_for(tmp_path / "lenet.pth", tiny_cifar10, tmp_path / "models"))

    loaded = checkpoint.load(published.folder, device=torch.device("cpu"))
    inputs = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded.network(inputs), lenet(inputs))
    assert loaded.card.training.config["imported_from"] == "lenet.pth"
    assert (loaded.card.model, loaded.card.version, loaded.card.test.images) == ("lenet", 1, 40)


@pytest.mark.parametrize("prefix", ["module.", "model1.", "module.model1."])
def test_prefix_is_taken_off(lenet: nn.Module, prefix: str) -> None:
    """The name of a wrapper or of an attribute in front of every name is no obstacle."""
    state = {prefix + name: value for name, value in lenet.state_dict().items()}

    assert fit_names(state, lenet.state_dict(), path=Path("x")).keys() == lenet.state_dict().keys()


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "net"])
def test_weights_beside_other_things(lenet: nn.Module, tmp_path: Path, wrapper: str) -> None:
    """A training loop's checkpoint, with epoch and optimizer beside the weights, is read as well."""
    torch.save({"epoch": 3, wrapper: lenet.state_dict(), "optimizer": {"lr": 1.0}}, tmp_path / "x.pth")

    assert read_state(tmp_path / "x.pth").keys() == lenet.state_dict().keys()


def test_weights_from_a_gpu(lenet: nn.Module, tmp_path: Path) -> None:
    """Weights that say they are on a GPU are read where there is none."""
    path = tmp_path / "gpu.pth"
    torch.save(lenet.state_dict(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    # the old format names each storage's device as a plain string
    path.write_bytes(content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    assert content != path.read_bytes()

    assert {value.device.type for value in read_state(path).values()} == {"cpu"}


class Trap:
    """Unpickling it would call `print`."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize("content", [nn.Sequential(nn.Linear(1, 1)), {"weight": Trap()}], ids=["module", "trap"])
def test_pickled_module_is_refused(tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that holds more than weights is not executed; the message tells how to save it again."""
    torch.save(content, tmp_path / "whole.pth")

    with pytest.raises(WeightsRefused, match=re.escape("torch.save(net.state_dict(), 'weights.pth')")):
        read_state(tmp_path / "whole.pth")

    assert capsys.readouterr().out == ""


def test_file_that_is_nothing(tmp_path: Path) -> None:
    """Bytes that torch did not write are refused in one line."""
    (tmp_path / "x.pth").write_bytes(b"GIF89a")

    with pytest.raises(WeightsRefused) as caught:
        read_state(tmp_path / "x.pth")

    assert "\n" not in str(caught.value)


def test_list_of_tensors_is_refused(tmp_path: Path) -> None:
    """Tensors without names are no state_dict."""
    torch.save([torch.zeros(1)], tmp_path / "x.pth")

    with pytest.raises(WeightsRefused, match="expected tensors by name"):
        read_state(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc3.bias": torch.zeros(100)}, r"x: expected fc3.bias \(10,\), got \(100,\)"),
        ({"fc4.bias": torch.zeros(10)}, "x: holds fc4.bias, which the architecture does not have"),
    ],
)
def test_other_network_is_refused(lenet: nn.Module, change: dict[str, torch.Tensor], message: str) -> None:
    """Weights of another network are refused with the first tensor that differs."""
    with pytest.raises(WeightsRefused, match=message):
        fit_names({**lenet.state_dict(), **change}, lenet.state_dict(), path=Path("x"))


def test_missing_tensor_is_named(lenet: nn.Module) -> None:
    """Weights that lack a tensor are refused with its name and shape."""
    state = lenet.state_dict()
    state.pop("fc3.bias")

    with pytest.raises(WeightsRefused, match=r"expected fc3.bias \(10,\), got only conv1.bias, "):
        fit_names(state, lenet.state_dict(), path=Path("x"))


@pytest.mark.parametrize("architecture", ["lenet", "mlp"])
def test_other_normalization_is_absorbed(architecture: str) -> None:
    """A network that was trained on pictures normalized by 0.5 and 0.5 answers the same on ours afterwards."""
    torch.manual_seed(0)
    network = registry.build(architecture).eval()
    images = torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8)
    before = network((images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)

    absorb_normalization(network, mean=0.5, std=0.5)

    torch.testing.assert_close(network(normalize(images, dtype=torch.float32)), before, rtol=1e-3, atol=1e-4)
    assert (MEAN[0], STD[0]) != (0.5, 0.5)
