"""How this client talks to a server: encryption, message sizes, retries, balancing, reconnection. Knows no method."""

import json

import grpc

from client.credentials import Tls
from client.requests import MAX_REQUEST_BYTES

# Every method only reads, so every method may be tried again. gRPC waits as long as a server's
# grpc-retry-pushback-ms says, and the call's deadline covers all attempts together.
_SERVICE_CONFIG = {
    # A target that resolves to several servers: calls are spread, and a retry goes to the next one.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
}
_HEALTHY_ONLY = {"healthCheckConfig": {"serviceName": ""}}
_OPTIONS = (
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", 64 * 2**20),
    # By default a call of more than 256 KiB is not kept, and so never retried.
    ("grpc.per_rpc_retry_buffer_size", 2 * MAX_REQUEST_BYTES),
    # By default attempts to connect come to lie two minutes apart: a server that starts is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Servers close connections that ping more often than this.
    ("grpc.keepalive_time_ms", 300_000),
)


def open_channel(target: str, *, healthy_only: bool, tls: Tls | None = None) -> grpc.aio.Channel:
    """Return a channel to `target`; it connects at the first call. Needs a running event loop.

    With `healthy_only`, servers that say NOT_SERVING, because they start or stop, are passed over; where
    all do, calls fail (gRPC's proposal A17). Without it they can still be asked about themselves.
    """
    config = {**_SERVICE_CONFIG, **(_HEALTHY_ONLY if healthy_only else {})}
    options: list[tuple[str, str | int]] = [*_OPTIONS, ("grpc.service_config", json.dumps(config))]
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(target, tls.to_grpc(), options=options)
