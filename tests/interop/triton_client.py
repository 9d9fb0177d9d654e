"""Runs in the environment of tritonclient: one scenario against a server, its outcome as JSON on standard output.

Called as `python triton_client.py ADDRESS FOLDER SCENARIO`; FOLDER holds what `conftest.Pictures` says.
"""

import asyncio
import json
import queue
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

ADDRESS, FOLDER, SCENARIO = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
PIXELS = np.load(FOLDER / "pictures.npy")
FILES = [(FOLDER / f"{number}.png").read_bytes() for number in range(len(PIXELS))]
PATIENCE_SECONDS = 30


def tensor(values, datatype):
    made = triton.InferInput("image", values.shape, datatype)
    made.set_data_from_numpy(values)
    return [made]


def uint8():
    return tensor(PIXELS, "UINT8")


def planar():
    return tensor(np.ascontiguousarray((PIXELS.astype(np.float32) / 255).transpose(0, 3, 1, 2)), "FP32")


def files(shape=None):
    return tensor(np.array(FILES, dtype=object).reshape(shape or (len(FILES), 1)), "BYTES")


def probabilities(result):
    return result.as_numpy("probabilities").tolist()


def failure_of(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except InferenceServerException as exc:
        return [exc.status(), exc.message()]
    return None


def health(client):
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "models": [
            client.is_model_ready(name, version)
            for name, version in (("quick", ""), ("quick_encoded", "2"), ("quick", "1"), ("nobody", ""))
        ],
    }


def metadata(client):
    return {
        "server": client.get_server_metadata(as_json=True),
        "quick": client.get_model_metadata("quick", as_json=True),
        "quick_encoded": client.get_model_metadata("quick_encoded", as_json=True),
        "config": client.get_model_config("quick", as_json=True)["config"],
        "config_encoded": client.get_model_config("quick_encoded", as_json=True)["config"],
    }


def infer(client):
    answer = client.infer("quick", uint8(), model_version="2", request_id="mine")
    return {
        "uint8": probabilities(answer),
        "id": answer.get_response().id,
        "version": answer.get_response().model_version,
        "fp32": probabilities(client.infer("quick", planar())),
        "encoded": probabilities(client.infer("quick_encoded", files())),
        "encoded_flat": probabilities(client.infer("quick_encoded", files((len(FILES),)))),
        "with_parameters": probabilities(
            client.infer("quick", uint8(), priority=1, timeout=30_000_000, client_timeout=30, parameters={"own": "x"})
        ),
        "compressed": probabilities(client.infer("quick", uint8(), compression_algorithm="gzip")),
    }


def classification(client):
    def classes(count):
        wanted = [triton.InferRequestedOutput("probabilities", class_count=count)]
        found = client.infer("quick", uint8(), outputs=wanted).as_numpy("probabilities")
        return [[element.decode() for element in row] for row in found]

    return {"three": classes(3), "too_many": classes(1000)}


def async_infer(client):
    outcomes = queue.Queue()
    for _ in range(8):
        client.async_infer("quick", uint8(), callback=lambda result, error: outcomes.put((result, error)))
    answered = [outcomes.get(timeout=PATIENCE_SECONDS) for _ in range(8)]
    return {"answers": [probabilities(result) for result, error in answered if error is None]}


def stream(client):
    outcomes = queue.Queue()
    client.start_stream(lambda result, error: outcomes.put((result, error)))
    for number in range(20):
        client.async_stream_infer("quick" if number != 7 else "nobody", uint8(), request_id=str(number))
    answered = [outcomes.get(timeout=PATIENCE_SECONDS) for _ in range(20)]
    client.stop_stream()
    return {
        "ids": [result.get_response().id if result else "" for result, _ in answered],
        "errors": [error.message() for _, error in answered if error],
        "last": probabilities(answered[-1][0]),
    }


def stream_with_status(client):
    outcomes = queue.Queue()
    client.start_stream(lambda result, error: outcomes.put((result, error)), headers={"triton_grpc_error": "true"})
    client.async_stream_infer("quick", uint8(), request_id="first")
    client.async_stream_infer("nobody", uint8(), request_id="second")
    first, second = outcomes.get(timeout=PATIENCE_SECONDS), outcomes.get(timeout=PATIENCE_SECONDS)
    client.stop_stream()
    return {"first": first[0].get_response().id, "status": second[1].status(), "message": second[1].message()}


def statistics(client):
    """In the order of NVIDIA's perf_analyzer: metadata and configuration, a window between two readings."""
    extensions = client.get_server_metadata().extensions
    client.get_model_metadata("quick")
    config = client.get_model_config("quick").config
    before = client.get_inference_statistics("quick").model_stats[0]
    for _ in range(5):
        client.infer("quick", uint8())
    failure_of(client.infer, "quick", tensor(PIXELS[:, :16], "UINT8"))
    after = client.get_inference_statistics("quick").model_stats[0]
    return {
        "announced": "statistics" in extensions,
        "max_batch_size": config.max_batch_size,
        "has_dynamic_batching": config.HasField("dynamic_batching"),
        "decoupled": config.model_transaction_policy.decoupled,
        "images": after.inference_count - before.inference_count,
        "passes": after.execution_count - before.execution_count,
        "requests": after.inference_stats.success.count - before.inference_stats.success.count,
        "nanoseconds": {
            stage: getattr(after.inference_stats, stage).ns - getattr(before.inference_stats, stage).ns
            for stage in ("success", "queue", "compute_input", "compute_infer", "compute_output")
        },
        "names": [stats.name for stats in client.get_inference_statistics().model_stats],
    }


def repository(client):
    def states(name):
        models = client.get_model_repository_index(as_json=True)["models"]
        return {entry["version"]: entry["state"] for entry in models if entry["name"] == name}

    outcome = {"before": states("other"), "of_quick": states("quick_encoded")}
    client.unload_model("other")
    outcome["unloaded"] = states("other")
    outcome["refused"] = failure_of(client.infer, "other", uint8())
    client.load_model("other")
    outcome["loaded"] = states("other")
    outcome["override"] = failure_of(client.load_model, "other", config="{}")
    outcome["file"] = failure_of(client.load_model, "other", config="{}", files={"file:1/model.pt": b"evil"})
    outcome["unknown"] = failure_of(client.load_model, "nobody")
    outcome["encoded"] = failure_of(client.unload_model, "other_encoded")
    return outcome


def refusals(client):
    region = triton.InferInput("image", PIXELS.shape, "UINT8")
    region.set_shared_memory("region", PIXELS.nbytes)
    return {
        "unknown_model": failure_of(client.infer, "nobody", uint8()),
        "unknown_version": failure_of(client.infer, "quick", uint8(), model_version="1"),
        "no_version": failure_of(client.infer, "quick", uint8(), model_version="newest"),
        "unknown_output": failure_of(client.infer, "quick", uint8(), outputs=[triton.InferRequestedOutput("logits")]),
        "wrong_shape": failure_of(client.infer, "quick", tensor(PIXELS[:, :16], "UINT8")),
        "bad_file": failure_of(client.infer, "quick_encoded", tensor(np.array([[b"no"]], dtype=object), "BYTES")),
        "shared_memory": failure_of(client.infer, "quick", [region]),
        "shared_memory_status": failure_of(client.get_system_shared_memory_status),
        "trace": failure_of(client.get_trace_settings),
        "logging": failure_of(client.get_log_settings),
        "timeout": failure_of(client.infer, "quick", uint8(), timeout=-1),
    }


def descriptors(_client):
    """All messages and enumerations of this package's own descriptors, for comparison with ours."""
    pool = service_pb2.DESCRIPTOR.pool
    found = {}

    def add(message):
        found[message.full_name] = {
            field.name: [field.number, field.type, int(field.is_repeated)] for field in message.fields
        }
        for nested in message.nested_types:
            add(nested)
        for enum in message.enum_types:
            found[enum.full_name] = {value.name: [value.number] for value in enum.values}

    for file in (service_pb2.DESCRIPTOR, pool.FindFileByName("model_config.proto")):
        for message in file.message_types_by_name.values():
            add(message)
        for enum in file.enum_types_by_name.values():
            found[enum.full_name] = {value.name: [value.number] for value in enum.values}
    return found


async def aio():
    async with triton_aio.InferenceServerClient(ADDRESS) as client:

        async def requests():
            for number in range(3):
                yield {"model_name": "quick", "inputs": uint8(), "request_id": str(number)}

        answers = await asyncio.gather(*(client.infer("quick", uint8()) for _ in range(4)))
        streamed = [(result, error) async for result, error in client.stream_infer(requests())]
        return {
            "ready": await client.is_model_ready("quick"),
            "answers": [probabilities(answer) for answer in answers],
            "streamed": [result.get_response().id for result, error in streamed if error is None],
        }


def main():
    if SCENARIO == "aio":
        outcome = asyncio.run(aio())
    else:
        with triton.InferenceServerClient(ADDRESS) as client:
            outcome = globals()[SCENARIO](client)
    json.dump(outcome, sys.stdout)


main()
