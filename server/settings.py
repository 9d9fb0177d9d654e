"""Every knob of the server: name, type, bound, default, flag, environment variable and help in one place."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.reconciliation import ModelControl

_PRETRAINED = Path(__file__).parent.parent / "models" / "pretrained"


class ServerSettings(BaseSettings):
    """Serve CIFAR-10 classifiers over gRPC.

    Every flag can also be set as an environment variable: --max-batch-size is
    CIFARSERVE_MAX_BATCH_SIZE. Flags win over the environment, the environment over the defaults.
    """

    model_config = SettingsConfigDict(
        env_prefix="CIFARSERVE_",
        cli_prog_name="cifarserve-server",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        frozen=True,
    )

    repository: Path = Field(_PRETRAINED, description="folder of models: REPOSITORY/MODEL/VERSION/")
    default_model: str = Field(
        "", description="model that answers when a request names none; empty: the shipped default, or the only model"
    )
    model_control: ModelControl = Field(
        ModelControl.POLL,
        description="what is followed after the start; poll: the repository; explicit: requests of operators; none",
    )
    poll_interval_seconds: Annotated[float, Field(ge=0.05, le=3600)] = Field(
        1.0, description="how often the repository is looked at, unless --model-control is none"
    )
    host: str = Field("127.0.0.1", description="address to listen on, for gRPC and metrics")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(50051, description="gRPC port; 0 picks a free one")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        9464, description="port of http://HOST:PORT/metrics; 0 picks a free one"
    )
    workers: Annotated[int, Field(ge=1)] = Field(
        1,
        description="server processes that share the port, each with all models; at most one per CPU",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file: the server's certificate, then those that lead to its authority; followed"
    )
    tls_key: Path | None = Field(None, description="PEM file: its private key, without a password; followed")
    tls_client_ca: Path | None = Field(
        None, description="PEM file: clients must show a certificate of one of these authorities (mutual TLS); followed"
    )
    accepted_tokens: Path | None = Field(
        None, description="clients must show a token of this file; its lines are 'infer|admin NAME TOKEN'; followed"
    )
    rate_limit_per_second: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="requests a second that each client, by token or else by address, may send each worker; 0: any",
    )
    rate_limit_burst: Annotated[int, Field(ge=1)] = Field(100, description="how many of them may come at once")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field("auto", description="auto|cpu|cuda[:n]")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: the fastest on this machine that the checkpoint's card allows"
    )
    compile: bool = Field(
        default=False,
        description="also try networks compiled by TorchInductor: starts about 20 s later for each model, needs g++",
    )
    lanes: Annotated[int, Field(ge=0, le=64)] = Field(
        0,
        description="batches of one model computed side by side in each worker; 0: as many as its share of the CPUs",
    )
    max_batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(64, description="most images in one forward pass")
    max_queue_delay_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        0.0, description="how long an image may wait for a fuller batch while the engine is free"
    )
    max_queue_items: Annotated[int, Field(ge=1)] = Field(
        2048, description="images that may wait per model; beyond it RESOURCE_EXHAUSTED"
    )
    max_images_per_request: Annotated[int, Field(ge=1)] = Field(1024, description="images in one request")
    max_message_bytes: Annotated[int, Field(ge=4096, le=2**31 - 1)] = Field(
        8 * 2**20, description="largest request message"
    )
    max_image_pixels: Annotated[int, Field(ge=1024, le=80_000_000)] = Field(
        25_000_000, description="width times height that is decoded at all"
    )
    max_queue_mib: Annotated[int, Field(ge=1)] = Field(
        256,
        description="MiB of pictures as sent that may be held per model until answered; beyond it RESOURCE_EXHAUSTED",
    )
    decode_threads: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="threads for big pictures in each worker; 0: as many as its share of the CPUs"
    )
    channelz: bool = Field(
        default=False,
        description="answer grpc.channelz.v1 too, which tells operators of connections and calls: callers' addresses",
    )
    drain_delay_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0, description="after SIGTERM: how long to go on serving with health NOT_SERVING before refusing new work"
    )
    drain_timeout_seconds: Annotated[float, Field(ge=0)] = Field(
        30.0, description="after that: how long accepted work may take before it is cut off"
    )
    max_stall_seconds: Annotated[float, Field(gt=0)] = Field(
        30.0,
        description="an engine that has work and finishes none for so long is stuck: the server exits with status 1",
    )
    access_log_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="share of all RPCs that have a line of JSON on standard output, chosen by chance; 0: none"
    )
    tracing: bool = Field(
        False,  # noqa: FBT003  # a default, not an argument
        description="export OpenTelemetry spans over OTLP/HTTP, to where the OTEL_* variables say; needs [tracing]",
    )
    log_format: Literal["console", "json"] = Field("console", description="how log lines look")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line to log")

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("expected both or neither of --tls-certificate and --tls-key")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("--tls-client-ca: expected --tls-certificate and --tls-key with it")
        return self

    @model_validator(mode="after")
    def _request_fits_the_queue(self) -> Self:
        if self.max_images_per_request > self.max_queue_items:
            raise ValueError(
                f"max_images_per_request ({self.max_images_per_request}) must not exceed"
                f" max_queue_items ({self.max_queue_items}): such a request could never be accepted"
            )
        if self.max_message_bytes > self.max_queue_mib * 2**20:
            raise ValueError(
                f"max_message_bytes ({self.max_message_bytes}) must not exceed max_queue_mib"
                f" ({self.max_queue_mib} MiB): such a message could never be accepted"
            )
        return self
