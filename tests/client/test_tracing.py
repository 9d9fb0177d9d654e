import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider

from client import ClassifierClient
from client.tracing import trace_context
from tests.client.fake_server import FakeServer
from tests.conftest import ROOT

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


async def test_calls_belong_to_the_current_span(client: ClassifierClient, server: FakeServer) -> None:
    """A program that uses OpenTelemetry needs to do nothing for its trace to go on in the server."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("photo album") as span:
        await client.predict([b"dog"])
        expected = span.get_span_context()

    [metadata] = server.classifier.metadata
    assert str(metadata["traceparent"]).startswith(f"00-{expected.trace_id:032x}-{expected.span_id:016x}-")


@pytest.mark.parametrize(("variable", "sent"), [(PARENT, (("traceparent", PARENT),)), ("", ()), ("rubbish", ())])
def test_trace_of_a_script_goes_on(
    variable: str, sent: tuple[tuple[str, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment variable counts where there is no span."""
    monkeypatch.setenv("TRACEPARENT", variable)

    assert trace_context() == sent


def test_nothing_is_imported_for_programs_without_tracing() -> None:
    """Looking for a span does not load the library that makes spans."""
    program = "import sys, client.tracing; client.tracing.trace_context(); print('opentelemetry' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.strip() == "False"
