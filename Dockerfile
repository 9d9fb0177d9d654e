# Images of cifarserve: `docker build --target server|training|client|balancer .`, server by default.
#
# TORCH_VARIANT=cpu  PyTorch as locked, less the libraries that only a GPU makes it open: half the size
# TORCH_VARIANT=cuda PyTorch as locked; the host brings the driver (NVIDIA Container Toolkit)
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# ---- what is built, and stays behind ------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS torch-packages
ARG TORCH_VARIANT=cpu
WORKDIR /build
COPY requirements/server.txt deploy/image/without-gpu-libraries.sh ./
# Compiled here, because the root file system is read-only where it runs.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes -r server.txt \
 && case "${TORCH_VARIANT}" in \
      cpu) sh without-gpu-libraries.sh /opt/venv/lib/python3.11/site-packages ;; \
      cuda) ;; \
      *) echo "TORCH_VARIANT=${TORCH_VARIANT}: expected cpu or cuda" >&2; exit 2 ;; \
    esac \
 && /opt/venv/bin/python -c "import torch, torchvision; torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 32, 32))"

# Only what training needs beyond the server's packages: both images share the layer with PyTorch.
FROM torch-packages AS training-packages
COPY requirements/training.txt .
RUN python -m venv --without-pip /opt/training \
 && echo /opt/venv/lib/python3.11/site-packages >/opt/training/lib/python3.11/site-packages/torch-packages.pth \
 && pip --python /opt/training/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes -r training.txt

FROM ${PYTHON_IMAGE} AS client-packages
WORKDIR /build
COPY requirements/client.txt .
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes -r client.txt

FROM ${PYTHON_IMAGE} AS code
WORKDIR /app
COPY proto proto
COPY client client
COPY models models
COPY server server
COPY training training
RUN mv models/pretrained /models && python -m compileall -q .

# ---- what runs --------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="python:3.11-slim-bookworm"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin cifarserve
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app:/app/proto \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
STOPSIGNAL SIGTERM

FROM base AS client
LABEL org.opencontainers.image.title="cifarserve-client" \
      org.opencontainers.image.description="The command line that asks a cifarserve server what is in a picture"
COPY --from=client-packages /opt/venv /opt/venv
COPY --from=code /app/proto /app/proto
COPY --from=code /app/client /app/client
USER 10001:10001
WORKDIR /pictures
ENTRYPOINT ["python", "-m", "client"]
CMD ["--help"]

FROM debian:bookworm-slim AS balancer
LABEL org.opencontainers.image.title="cifarserve-balancer" \
      org.opencontainers.image.description="HAProxy before several cifarserve servers, request by request"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends haproxy \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/balancer/haproxy.cfg /etc/haproxy/haproxy.cfg
USER haproxy
EXPOSE 50051 8404
# HAProxy's soft stop: answers what it has begun.
STOPSIGNAL SIGUSR1
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"]

FROM base AS torch
COPY --from=torch-packages /opt/venv /opt/venv
COPY --from=code /app/models /app/models
# A new named volume that is mounted here begins with the shipped models, and belongs to this user.
COPY --from=code --chown=10001:10001 /models /models

FROM torch AS training
LABEL org.opencontainers.image.title="cifarserve-training" \
      org.opencontainers.image.description="Trains CIFAR-10 classifiers and publishes them as versions"
COPY --from=training-packages /opt/training /opt/training
COPY --from=code /app/training /app/training
RUN install --directory --owner=10001 --group=10001 /training /training/runs
ENV PATH=/opt/training/bin:$PATH \
    CIFARSERVE_TRAIN_REPOSITORY=/models \
    CIFARSERVE_TRAIN_DATA=/data \
    MPLCONFIGDIR=/tmp
USER 10001:10001
WORKDIR /training
ENTRYPOINT ["python", "-m", "training"]

FROM torch AS server
LABEL org.opencontainers.image.title="cifarserve-server" \
      org.opencontainers.image.description="Serves CIFAR-10 classifiers over gRPC with dynamic batching"
COPY --from=code /app/proto /app/proto
# Operators are heard from the server's own machine alone: `docker compose exec server python -m client models ...`
COPY --from=code /app/client /app/client
COPY --from=code /app/server /app/server
ENV CIFARSERVE_REPOSITORY=/models \
    CIFARSERVE_HOST=0.0.0.0 \
    CIFARSERVE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /app
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "server.probe"]
ENTRYPOINT ["python", "-m", "server"]
