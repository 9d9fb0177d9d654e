"""NVIDIA's own client, unchanged, in its own environment and process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor

from benchmarks.running import RunningServer
from cifarserve.inference import open_inference_pb2
from tests.interop.conftest import PICTURES, Pictures, same
from tests.interop.environments import python_environment, run_json

Scenario = Callable[[str], Any]

pytestmark = pytest.mark.timeout(600)  # the environment is made by the first test

# KServe's addition to a message of Triton's: a map, which is a message of its own.
_NOT_OF_TRITON = {
    ("inference.ModelMetadataResponse", "properties"),
    ("inference.ModelMetadataResponse.PropertiesEntry", "key"),
    ("inference.ModelMetadataResponse.PropertiesEntry", "value"),
}


@pytest.fixture(scope="module")
def scenario(server: RunningServer, pictures: Pictures) -> Scenario:
    """Runs a scenario of `triton_client.py` and returns its outcome."""
    python = python_environment("triton")
    script = Path(__file__).with_name("triton_client.py")
    return lambda name: run_json(python, script, server.address, pictures.folder, name)


def test_health(scenario: Scenario) -> None:
    """The server is live and ready; a model is ready under both names, in the version that is served."""
    assert scenario("health") == {"live": True, "ready": True, "models": [True, True, False, False]}


def test_metadata_and_configuration(scenario: Scenario) -> None:
    """The client learns tensors, limits and extensions; what is not spoken is not announced."""
    outcome = scenario("metadata")

    assert outcome["server"]["name"] == "cifarserve"
    assert not {"system_shared_memory", "cuda_shared_memory", "trace", "logging", "sequence"} & set(
        outcome["server"]["extensions"]
    )
    assert outcome["quick"]["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "32", "32", "3"]}]
    assert outcome["quick"]["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": ["-1", "10"]}]
    assert outcome["quick_encoded"]["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": ["-1", "1"]}]
    assert outcome["config"]["input"][0]["format"] == "FORMAT_NHWC"
    assert outcome["config"]["input"][0]["dims"] == ["32", "32", "3"]
    assert outcome["config"]["max_batch_size"] == 1024
    assert outcome["config"]["dynamic_batching"]["preferred_batch_size"] == [64]
    assert outcome["config_encoded"]["input"][0]["data_type"] == "TYPE_STRING"


def test_every_way_to_send_pictures_gives_the_same_answer(scenario: Scenario, pictures: Pictures) -> None:
    """Pixels, floats and files of the same pictures get the probabilities that our own service gives."""
    outcome = scenario("infer")

    assert (outcome["id"], outcome["version"]) == ("mine", "2")
    for way in ("uint8", "fp32", "encoded", "encoded_flat", "with_parameters", "compressed"):
        assert same(outcome[way], pictures.probabilities), way


def test_classification(scenario: Scenario, pictures: Pictures) -> None:
    """The best classes come as text with value, index and label, best first, as many as there are."""
    outcome = scenario("classification")

    assert [row[0].split(":")[2] for row in outcome["three"]] == pictures.best
    assert [len(row) for row in outcome["three"]] == [3] * PICTURES
    assert [len(row) for row in outcome["too_many"]] == [10] * PICTURES
    values = [float(element.split(":")[0]) for element in outcome["too_many"][0]]
    assert values == sorted(values, reverse=True)


def test_asynchronous_requests(scenario: Scenario, pictures: Pictures) -> None:
    """Requests that are under way together are all answered."""
    answers = scenario("async_infer")["answers"]

    assert len(answers) == 8
    assert all(same(answer, pictures.probabilities) for answer in answers)


def test_asyncio_client(scenario: Scenario, pictures: Pictures) -> None:
    """The asyncio client infers and streams."""
    outcome = scenario("aio")

    assert outcome["ready"] is True
    assert all(same(answer, pictures.probabilities) for answer in outcome["answers"])
    assert outcome["streamed"] == ["0", "1", "2"]


def test_stream_keeps_the_order_and_survives_an_error(scenario: Scenario, pictures: Pictures) -> None:
    """Answers come in the order of the requests; the one that failed has its message, and the stream goes on."""
    outcome = scenario("stream")

    assert outcome["ids"] == [str(number) if number != 7 else "" for number in range(20)]
    assert outcome["errors"] == ["unknown model 'nobody': expected one of other, quick"]
    assert same(outcome["last"], pictures.probabilities)


def test_stream_ends_with_a_status_when_that_is_wanted(scenario: Scenario) -> None:
    """With `triton_grpc_error: true` what came before is answered, then the stream ends with the failure's status."""
    outcome = scenario("stream_with_status")

    assert outcome == {
        "first": "first",
        "status": "StatusCode.NOT_FOUND",
        "message": "unknown model 'nobody': expected one of other, quick",
    }


def test_statistics_count_what_perf_analyzer_reads(scenario: Scenario) -> None:
    """In perf_analyzer's order of calls, requests, pictures and passes add up, and each stage took its time."""
    outcome = scenario("statistics")

    assert outcome["announced"] is True
    assert outcome["has_dynamic_batching"] is True
    assert outcome["decoupled"] is False
    assert (outcome["requests"], outcome["images"], outcome["passes"]) == (5, 5 * PICTURES, 5)
    stages = outcome["nanoseconds"]
    assert min(stages.values()) > 0
    assert sum(stages.values()) == pytest.approx(2 * stages["success"], rel=0.001)
    assert outcome["names"] == ["other", "quick"]


def test_index_load_and_unload(scenario: Scenario) -> None:
    """A model goes and comes back on request; files and configurations from outside are refused."""
    outcome = scenario("repository")

    assert outcome["before"] == {"1": "READY"}
    assert outcome["of_quick"] == {"1": "UNAVAILABLE", "2": "READY"}
    assert outcome["unloaded"] == {"1": "UNAVAILABLE"}
    assert outcome["refused"][0] == "StatusCode.NOT_FOUND"
    assert outcome["loaded"] == {"1": "READY"}
    assert outcome["override"][0] == outcome["file"][0] == outcome["encoded"][0] == "StatusCode.INVALID_ARGUMENT"
    assert outcome["unknown"][0] == "StatusCode.NOT_FOUND"


def test_refusals_say_what_is_wrong(scenario: Scenario) -> None:
    """Each way to ask wrongly has its status and one clear line."""
    assert scenario("refusals") == {
        "unknown_model": ["StatusCode.NOT_FOUND", "unknown model 'nobody': expected one of other, quick"],
        "unknown_version": [
            "StatusCode.NOT_FOUND",
            "version 1 of model 'quick' is not served: expected 2, or 0 for whichever is",
        ],
        "no_version": [
            "StatusCode.INVALID_ARGUMENT",
            "version: expected a decimal number from 1, or nothing, got 'newest'",
        ],
        "unknown_output": ["StatusCode.INVALID_ARGUMENT", "outputs: expected 'probabilities', got 'logits'"],
        "wrong_shape": [
            "StatusCode.INVALID_ARGUMENT",
            "input 'image': expected UINT8 [n,32,32,3] or FP32 [n,3,32,32], got UINT8 [3,16,32,3]",
        ],
        "bad_file": ["StatusCode.INVALID_ARGUMENT", "expected a JPEG or PNG file, got 2 bytes of something else"],
        "shared_memory": [
            "StatusCode.INVALID_ARGUMENT",
            "input 'image': expected its elements in the message: shared memory is not supported",
        ],
        "shared_memory_status": ["StatusCode.UNIMPLEMENTED", "Method not found!"],
        "trace": ["StatusCode.UNIMPLEMENTED", "Method not found!"],
        "logging": ["StatusCode.UNIMPLEMENTED", "Method not found!"],
        "timeout": ["StatusCode.INVALID_ARGUMENT", "timeout: expected microseconds from 0, got -1"],
    }


def test_contract_is_a_part_of_theirs(scenario: Scenario) -> None:
    """Every message, field and enumerated value of our .proto has Triton's name, number and type."""
    theirs = scenario("descriptors")

    ours = dict(_described())
    assert len(ours) > 40
    for name, fields in ours.items():
        for field, facts in fields.items():
            if (name, field) not in _NOT_OF_TRITON:
                assert theirs[name][field] == facts, f"{name}.{field}"


def _described() -> Iterator[tuple[str, dict[str, list[int]]]]:
    file = open_inference_pb2.DESCRIPTOR
    for enum in file.enum_types_by_name.values():
        yield enum.full_name, _values(enum)
    for message in file.message_types_by_name.values():
        yield from _messages(message)


def _messages(message: Descriptor) -> Iterator[tuple[str, dict[str, list[int]]]]:
    yield (
        message.full_name,
        {field.name: [field.number, field.type, int(field.is_repeated)] for field in message.fields},
    )
    for enum in message.enum_types:
        yield enum.full_name, _values(enum)
    for nested in message.nested_types:
        yield from _messages(nested)


def _values(enum: EnumDescriptor) -> dict[str, list[int]]:
    return {value.name: [value.number] for value in enum.values}
