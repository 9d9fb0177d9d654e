"""Call a cifarserve server: `ClassifierClient` for asyncio, `BlockingClassifierClient` without.

Needs gRPC and protobuf; knows no torch, no model and nothing of the server but its contract in proto/.
"""

from client.blocking import BlockingClassifierClient
from client.client import ClassifierClient
from client.errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PictureMissing,
    ServerFailed,
    ServerUnavailable,
    UnexpectedStatus,
)
from client.requests import Image, RawRgb
from client.results import (
    Answer,
    ImageResult,
    ModelDetails,
    ModelIdentity,
    ModelState,
    ModelSummary,
    Prediction,
    Timings,
)

__all__ = [
    "AccessDenied",
    "Answer",
    "BlockingClassifierClient",
    "ClassifierClient",
    "ClientError",
    "DeadlineExceeded",
    "Image",
    "ImageResult",
    "InvalidRequest",
    "ModelDetails",
    "ModelIdentity",
    "ModelState",
    "ModelSummary",
    "NotFound",
    "Overloaded",
    "PictureMissing",
    "Prediction",
    "RawRgb",
    "ServerFailed",
    "ServerUnavailable",
    "Timings",
    "UnexpectedStatus",
]
