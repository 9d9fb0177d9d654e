import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SERVERS = [name for name, service in SERVICES.items() if service["image"].startswith("cifarserve-server")]
_CONTEXT_BYTES = 30 * 2**20


def test_profiles() -> None:
    """`docker compose up` gives the server and Prometheus; the rest is asked for by name."""
    by_profile: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for profile in service.get("profiles", [""]):
            by_profile.setdefault(profile, set()).add(name)

    assert by_profile == {
        "": {"server", "prometheus"},
        "scale": {"replica", "balancer"},
        "gpu": {"server-gpu"},
        "training": {"training"},
        "observe": {"grafana"},
        "bench": {"bench"},
    }


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_little(name: str) -> None:
    """A read-only root file system, no capabilities, no new privileges, bounded memory."""
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


@pytest.mark.parametrize("name", SERVERS)
def test_servers_are_given_the_time_that_their_drain_takes(name: str) -> None:
    """Docker kills no server that still answers what it accepted; one that ends by itself is started again."""
    environment = SERVICES[name]["environment"]
    drain = sum(environment.get(f"CIFARSERVE_DRAIN_{part}_SECONDS", 0) for part in ("DELAY", "TIMEOUT"))

    assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > drain > 0
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_machine_alone(name: str) -> None:
    """Without TLS and tokens nothing is offered to the network."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_one_container_fills_the_volume() -> None:
    """Docker copies the image's models into a new volume; two containers at the same moment would collide."""
    mounting = {name for name, service in SERVICES.items() if "models:/models" in service.get("volumes", [])}

    for name in mounting - {"server"}:
        assert "server" in SERVICES[name]["depends_on"]


def test_volumes_are_named_and_what_is_mounted_exists() -> None:
    """Every named volume is declared, and every file of ours that is mounted is there."""
    for service in SERVICES.values():
        for source in (volume.split(":")[0] for volume in service.get("volumes", []) if volume[0] != "$"):
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_compose_reads_it() -> None:
    """Docker's own program resolves the file, all profiles included."""
    compose = Path(sys.executable).with_name("docker-compose")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}

    result = subprocess.run(
        [compose, "--profile", "*", "config", "--services"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == set(SERVICES)


def test_build_context_is_small() -> None:
    """What .dockerignore lets through is less than 30 MB, and all that the Dockerfile copies."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    files = [path for pattern in allowed for found in ROOT.glob(pattern) for path in (found, *found.rglob("*"))]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".pyc") < _CONTEXT_BYTES
    for source in " ".join(copied).split():
        assert ROOT / source in files


def test_images_have_what_their_commands_ask_for() -> None:
    """Every target of the compose file is a stage of the Dockerfile."""
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert {service["build"]["target"] for service in OURS.values()} == {"server", "training", "client", "balancer"}
    assert {"server", "training", "client", "balancer"} <= set(stages)
    assert stages[-1] == "server"  # what `docker build .` makes
