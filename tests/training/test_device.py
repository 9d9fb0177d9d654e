import pytest
import torch

from training import device
from training.errors import DeviceMissing

CPU = torch.device("cpu")


@pytest.fixture
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


@pytest.fixture
def _one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA Test")


@pytest.mark.usefixtures("_no_gpu")
def test_auto_is_the_cpu_without_a_gpu() -> None:
    """Nobody has to say that there is no GPU."""
    assert device.select_device("auto") == CPU


@pytest.mark.usefixtures("_one_gpu")
def test_auto_is_the_gpu_where_there_is_one() -> None:
    """A GPU is used without asking, and the CPU when it is asked for."""
    assert device.select_device("auto").type == "cuda"
    assert device.select_device("cpu") == CPU


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_gpu_that_is_not_there(name: str) -> None:
    """A GPU that was named and is absent stops the run instead of training on the CPU for days."""
    with pytest.raises(DeviceMissing) as caught:
        device.select_device(name)

    assert str(caught.value) == f"device {name}: this machine has 0 CUDA devices; use auto or cpu"


@pytest.mark.usefixtures("_one_gpu")
def test_gpu_number_that_is_not_there() -> None:
    """With one GPU, number 0 exists and number 1 does not."""
    assert device.select_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(DeviceMissing, match="cuda:1: this machine has 1 CUDA devices"):
        device.select_device("cuda:1")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_that_was_named(precision: str, dtype: torch.dtype) -> None:
    """A precision that was asked for is used on any device."""
    assert device.select_dtype(precision, CPU) == dtype


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu sse avx2 avx512_bf16 amx_tile", torch.bfloat16),
        ("fpu sse avx2 amx_bf16", torch.bfloat16),
        ("fpu sse avx2 avx512f", torch.float32),
        ("fpu avx512_bf16_emulated", torch.float32),
    ],
)
def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch, flags: str, dtype: torch.dtype) -> None:
    """On a CPU bf16 is chosen only where the instructions exist."""
    monkeypatch.setattr(device, "_cpuinfo", lambda: ["model name\t: Test CPU", f"flags\t\t: {flags}"])

    assert device.select_dtype("auto", CPU) == dtype


@pytest.mark.usefixtures("_one_gpu")
def test_precision_of_a_gpu() -> None:
    """A GPU that computes in bf16 does."""
    assert device.select_dtype("auto", torch.device("cuda")) == torch.bfloat16


def test_hardware_names_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card tells on which processor and with how many threads a network was trained."""
    monkeypatch.setattr(device, "_cpuinfo", lambda: ["processor\t: 0", "model name\t: Test CPU @ 3.00GHz"])

    assert device.hardware_name(CPU) == f"Test CPU @ 3.00GHz, {torch.get_num_threads()} threads"


def test_hardware_without_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell the processor's name, its kind has to do."""
    monkeypatch.setattr(device, "_cpuinfo", list)

    assert device.hardware_name(CPU).endswith(f", {torch.get_num_threads()} threads")
    assert not device.hardware_name(CPU).startswith(",")


@pytest.mark.usefixtures("_one_gpu")
def test_hardware_names_the_gpu() -> None:
    """The card names the GPU as its driver does."""
    assert device.hardware_name(torch.device("cuda")) == "NVIDIA Test"
