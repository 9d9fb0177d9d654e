# The server, on the shipped models. Another repository: mount it and set CIFARSERVE_REPOSITORY.
FROM python:3.11-slim-bookworm AS install
WORKDIR /install
COPY requirements/server.txt .
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --require-hashes -r server.txt

FROM python:3.11-slim-bookworm AS server
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin cifarserve
COPY --from=install /opt/venv /opt/venv
WORKDIR /app
COPY proto proto
COPY client client
COPY models models
COPY server server
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app:/app/proto \
    PYTHONUNBUFFERED=1 \
    CIFARSERVE_HOST=0.0.0.0 \
    CIFARSERVE_LOG_FORMAT=json
USER 10001
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "client", "--timeout-seconds", "4", "health"]
ENTRYPOINT ["python", "-m", "server"]
