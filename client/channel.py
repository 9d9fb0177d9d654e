"""How this client talks to a server: encryption, message sizes, retries, balancing, reconnection. Knows no method."""

import json

import grpc

from client.credentials import Tls
from client.requests import MAX_REQUEST_BYTES

# Every method only reads, so every method may be tried again. gRPC waits as long as a server's
# grpc-retry-pushback-ms says, and the call's deadline covers all attempts together.
_RETRIES: dict[str, object] = {
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}
# A target that resolves to several servers: calls are spread, and a retry goes to the next one.
_BALANCING: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
_HEALTHY_ONLY: dict[str, object] = {"healthCheckConfig": {"serviceName": ""}}
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


DEFAULT_MAX_ATTEMPTS = 4
MAX_ATTEMPTS = 5  # gRPC makes no more, whatever it is told


def open_channel(target: str, *, healthy_only: bool, max_attempts: int, tls: Tls | None = None) -> grpc.aio.Channel:
    """Return a channel to `target`; it connects at the first call. Needs a running event loop.

    With `healthy_only`, servers that say NOT_SERVING, because they start or stop, are passed over; where
    all do, calls fail (gRPC's proposal A17). Without it they can still be asked about themselves. A call
    that meets a server that is away or overloaded is tried up to `max_attempts` times, 1 to `MAX_ATTEMPTS`.
    """
    config = _BALANCING | _retries(max_attempts) | (_HEALTHY_ONLY if healthy_only else {})
    options: list[tuple[str, str | int]] = [*_OPTIONS, ("grpc.service_config", json.dumps(config))]
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(target, tls.to_grpc(), options=options)


def _retries(max_attempts: int) -> dict[str, object]:
    """Return the retry policy of all methods (gRPC's proposal A6), which knows no single attempt."""
    if max_attempts == 1:
        return {}
    policy = _RETRIES | {"maxAttempts": max_attempts}
    return {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
