import tomllib

import pytest

from cifarserve.inference import open_inference_pb2 as pb
from models.labels import LABELS
from server.engines import EngineInfo
from server.open_inference.description import server_metadata, to_config, to_metadata
from server.open_inference.entries import Entry
from server.served import BatchLimits, ServedModel, serve_version
from tests.conftest import ROOT, make_card
from tests.fakes import FakeEngine

LIMITS = BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.002, max_queue_items=8, lanes=3)
PIXELS, FILES = Entry("quick", is_encoded=False), Entry("quick", is_encoded=True)


async def served(device: str = "cpu") -> ServedModel:
    engine = FakeEngine()
    engine.info = EngineInfo(device=device, precision="bf16", layout="blocked", batch_seconds={1: 0.001})
    return await serve_version(
        make_card("quick", "quick", 7, "0" * 64),
        engine,
        limits=LIMITS,
        observe=lambda record: None,  # noqa: ARG005
        on_broken=lambda reason: None,  # noqa: ARG005
    )


def test_version_is_that_of_the_project() -> None:
    """What the server says of itself is what pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (server_metadata().name, server_metadata().version) == (project["name"], project["version"])


@pytest.mark.parametrize(
    ("entry", "name", "datatype", "shape"),
    [(PIXELS, "quick", "UINT8", [-1, 32, 32, 3]), (FILES, "quick_encoded", "BYTES", [-1, 1])],
)
async def test_metadata_names_the_tensors(entry: Entry, name: str, datatype: str, shape: list[int]) -> None:
    """One input and one output, any number of pictures, and the labels in their order."""
    model = await served()
    metadata = to_metadata(entry, model)
    await model.close()

    assert (metadata.name, list(metadata.versions)) == (name, ["7"])
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("image", datatype, shape)]
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.outputs] == [
        ("probabilities", "FP32", [-1, 10])
    ]
    assert metadata.properties["labels"].split(",") == list(LABELS)


async def test_configuration_tells_limits() -> None:
    """What a client may send, what a pass holds, how long it waits, and how many run side by side."""
    model = await served()
    config = to_config(PIXELS, model, limits=LIMITS, max_images=1024)
    await model.close()

    assert config.max_batch_size == 1024
    assert list(config.input[0].dims) == [32, 32, 3]
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 8
    assert [(group.kind, group.count) for group in config.instance_group] == [(pb.ModelInstanceGroup.KIND_CPU, 3)]


async def test_configuration_tells_the_gpu() -> None:
    """The device's number is told, as a client of several GPUs expects."""
    model = await served("cuda:1")
    config = to_config(FILES, model, limits=LIMITS, max_images=1024)
    await model.close()

    assert [(group.kind, list(group.gpus)) for group in config.instance_group] == [
        (pb.ModelInstanceGroup.KIND_GPU, [1])
    ]
    assert (config.input[0].data_type, list(config.input[0].dims)) == (pb.TYPE_STRING, [1])
