"""Call a cifarserve server: `ClassifierClient` for asyncio, `BlockingClassifierClient` without.

`ModelAdminClient` is for operators, who decide what the server serves.

Needs gRPC and protobuf; knows no torch, no model and nothing of the server but its contract in proto/.
"""

from client.admin import ModelAdminClient, ModelVersion, ModelVersions, VersionState
from client.blocking import BlockingClassifierClient
from client.client import ClassifierClient
from client.credentials import Credentials, Tls
from client.errors import (
    AccessDenied,
    BadCredentials,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotPossible,
    NotTrusted,
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
    "BadCredentials",
    "BlockingClassifierClient",
    "Classified",
    "ClassifierClient",
    "ClientError",
    "Credentials",
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
    "NotTrusted",
    "OutputNotWritten",
    "Overloaded",
    "PictureMissing",
    "Prediction",
    "RawRgb",
    "RefusedVersion",
    "ServerFailed",
    "ServerUnavailable",
    "Timings",
    "Tls",
    "UnexpectedStatus",
    "VersionState",
]
