"""What this protocol tells of the server and of a model: metadata and configuration. Pure."""

from cifarserve.inference import open_inference_pb2 as pb
from models.preprocessing import IMAGE_SHAPE
from server import VERSION
from server.open_inference.entries import Entry
from server.open_inference.tensors import INPUT, OUTPUT
from server.served import BatchLimits, ServedModel

# What Triton's clients ask for before they use a part of the protocol. Shared memory, tracing and logging are
# not spoken, and sequences make no sense for pictures.
EXTENSIONS = (
    "classification",
    "schedule_policy",
    "model_configuration",
    "statistics",
    "model_repository",
    "binary_tensor_data",
    "parameters",
)
_PLATFORM = "pytorch"
_WEIGHTS_FILE = "model.pt"
_CARD_FILE = "model.json"
_ANY = -1


def server_metadata() -> pb.ServerMetadataResponse:
    """Return the description of the server."""
    return pb.ServerMetadataResponse(name="cifarserve", version=VERSION, extensions=EXTENSIONS)


def to_metadata(entry: Entry, served: ServedModel) -> pb.ModelMetadataResponse:
    """Return the description of a served model's tensors."""
    card = served.card
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=entry.name_of(card.model),
        versions=[str(card.version)],
        platform=_PLATFORM,
        inputs=[
            tensor(name=INPUT, datatype="BYTES", shape=(_ANY, 1))
            if entry.is_encoded
            else tensor(name=INPUT, datatype="UINT8", shape=(_ANY, *IMAGE_SHAPE))
        ],
        outputs=[tensor(name=OUTPUT, datatype="FP32", shape=(_ANY, len(card.labels)))],
        properties={
            "labels": ",".join(card.labels),
            "digest": card.digest,
            "test_accuracy": f"{card.test.accuracy:.4f}",
        },
    )


def to_config(entry: Entry, served: ServedModel, *, limits: BatchLimits, max_images: int) -> pb.ModelConfig:
    """Return how a model is served.

    Args:
        entry: the name that was asked for.
        served: the model.
        limits: of its queue.
        max_images: how many pictures a request may have.
    """
    card, info = served.card, served.engine.info
    return pb.ModelConfig(
        name=entry.name_of(card.model),
        platform=_PLATFORM,
        backend=_PLATFORM,
        version_policy=pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=[card.version])),
        max_batch_size=max_images,
        input=[_input(entry)],
        output=[
            pb.ModelOutput(name=OUTPUT, data_type=pb.TYPE_FP32, dims=[len(card.labels)], label_filename=_CARD_FILE)
        ],
        instance_group=[_instances(info.device, limits.lanes)],
        default_model_filename=_WEIGHTS_FILE,
        dynamic_batching=_batching(limits),
        parameters={
            "digest": pb.ModelParameter(string_value=card.digest),
            "precision": pb.ModelParameter(string_value=info.precision),
        },
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )


def _input(entry: Entry) -> pb.ModelInput:
    if entry.is_encoded:
        return pb.ModelInput(name=INPUT, data_type=pb.TYPE_STRING, format=pb.ModelInput.FORMAT_NONE, dims=[1])
    return pb.ModelInput(name=INPUT, data_type=pb.TYPE_UINT8, format=pb.ModelInput.FORMAT_NHWC, dims=IMAGE_SHAPE)


def _instances(device: str, lanes: int) -> pb.ModelInstanceGroup:
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return pb.ModelInstanceGroup(name=device, count=lanes, kind=pb.ModelInstanceGroup.KIND_CPU)
    return pb.ModelInstanceGroup(name=device, count=lanes, kind=pb.ModelInstanceGroup.KIND_GPU, gpus=[int(number or 0)])


def _batching(limits: BatchLimits) -> pb.ModelDynamicBatching:
    return pb.ModelDynamicBatching(
        preferred_batch_size=[limits.max_batch_size],
        max_queue_delay_microseconds=round(limits.max_queue_delay_seconds * 1_000_000),
        default_queue_policy=pb.ModelQueuePolicy(
            timeout_action=pb.ModelQueuePolicy.REJECT,
            allow_timeout_override=True,
            max_queue_size=min(limits.max_queue_items, 2**32 - 1),
        ),
    )
