import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("cpu", "gpu")


def _base() -> list[dict[str, Any]]:
    files = sorted((KUBERNETES / "base").glob("*.yaml"))
    return [item for path in files for item in yaml.safe_load_all(path.read_text())]


def _named(kind: str, name: str) -> dict[str, Any]:
    [found] = [item for item in _base() if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


SERVER: dict[str, Any] = _named("Deployment", "server")["spec"]["template"]["spec"]
TRAINING: dict[str, Any] = _named("Job", "training")["spec"]["template"]["spec"]


def test_every_file_of_the_base_is_applied() -> None:
    """A file that kustomization.yaml forgets would be written in vain."""
    files = {path.name for path in (KUBERNETES / "base").glob("*.yaml")} - {"kustomization.yaml"}
    applied = yaml.safe_load((KUBERNETES / "base/kustomization.yaml").read_text())["resources"]

    assert set(applied) == files


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_meet_the_published_schemas(overlay: str, tmp_path: Path) -> None:
    """What kubectl makes of an overlay is what Kubernetes accepts."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: `make check` validates the base alone")
    rendered = tmp_path / "rendered.yaml"
    rendered.write_bytes(subprocess.check_output([kubectl, "kustomize", str(KUBERNETES / "overlays" / overlay)]))
    validate = Path(sys.executable).with_name("kubernetes-validate")

    result = subprocess.run(
        [validate, "--strict", "--quiet", "--no-warn", rendered], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("pod", [SERVER, TRAINING], ids=["server", "training"])
def test_pods_meet_the_restricted_standard(pod: dict[str, Any]) -> None:
    """No root, no privileges, no writable root file system, no token of Kubernetes; memory has a limit."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_a_pod_is_given_the_time_that_its_drain_takes() -> None:
    """Kubernetes kills no server that still answers what it accepted."""
    config = _named("ConfigMap", "cifarserve")["data"]
    drain = sum(float(config[f"CIFARSERVE_DRAIN_{name}_SECONDS"]) for name in ("DELAY", "TIMEOUT"))

    assert SERVER["terminationGracePeriodSeconds"] > drain


def test_probes_ask_different_questions() -> None:
    """Starting may take minutes; a pod that drains gets no requests within seconds, and is never restarted for it."""
    [server] = SERVER["containers"]
    startup, readiness, liveness = (server[f"{name}Probe"] for name in ("startup", "readiness", "liveness"))
    config = _named("ConfigMap", "cifarserve")["data"]

    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < float(config["CIFARSERVE_DRAIN_DELAY_SECONDS"])
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    assert "grpc" in readiness
    assert "grpc" not in liveness  # its answer would be NOT_SERVING


def test_names_lead_to_what_is_there() -> None:
    """Labels, ports and names that one file mentions exist in the other."""
    deployment = _named("Deployment", "server")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"] for port in SERVER["containers"][0]["ports"]}

    for service in ("servers", "server"):
        spec = _named("Service", service)["spec"]
        assert spec["selector"].items() <= labels
        assert {port["targetPort"] for port in spec["ports"]} <= ports
    assert _named("PodDisruptionBudget", "server")["spec"]["selector"]["matchLabels"].items() <= labels
    assert _named("NetworkPolicy", "server")["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert _named("HorizontalPodAutoscaler", "server")["spec"]["scaleTargetRef"]["name"] == "server"
    monitored = _named("ServiceMonitor", "server")["spec"]["selector"]["matchLabels"].items()
    assert monitored <= _named("Service", "servers")["metadata"]["labels"].items()
    assert not monitored <= _named("Service", "server")["metadata"]["labels"].items()  # or each pod would count twice
