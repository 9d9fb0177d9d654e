"""Call a cifarserve server: `ClassifierClient` for asyncio, `BlockingClassifierClient` without.

`ModelAdminClient` is for operators, who decide what the server serves.

Needs gRPC and protobuf; knows no torch, no model and nothing of the server but its contract in proto/.
"""

from client.admin import ModelAdminClient, ModelVersion, ModelVersions, VersionState
from client.blocking import BlockingClassifierClient
from client.client import ClassifierClient
from client.errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotPossible,
    OutputNotWritten,
    Overloaded,
    PictureMissing,
    ServerFailed,
    ServerUnavailable,
    UnexpectedStatus,
)
from client.pipeline import Classified
from client.requests import Image, RawRgb
from client.results import (
    Answer,
    ImageResult,
    ModelDetails,
    ModelIdentity,
    ModelState,
    ModelSummary,
    Prediction,
    RefusedVersion,
    Timings,
)

__all__ = [
    "AccessDenied",
    "Answer",
    "BlockingClassifierClient",
    "Classified",
    "ClassifierClient",
    "ClientError",
    "DeadlineExceeded",
    "Image",
    "ImageResult",
    "InvalidRequest",
    "ModelAdminClient",
    "ModelDetails",
    "ModelIdentity",
    "ModelState",
    "ModelSummary",
    "ModelVersion",
    "ModelVersions",
    "NotFound",
    "NotPossible",
    "OutputNotWritten",
    "Overloaded",
    "PictureMissing",
    "Prediction",
    "RawRgb",
    "RefusedVersion",
    "ServerFailed",
    "ServerUnavailable",
    "Timings",
    "UnexpectedStatus",
    "VersionState",
]
