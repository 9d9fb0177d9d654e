import re
import shutil
import subprocess
from collections.abc import Mapping

import pytest

from tests.conftest import ROOT
from tests.deploy.queries import ALERTS, faults, parse, rules

RULES = rules(ALERTS)
NAMED = [rule for rule in RULES if "alert" in rule]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert", rule.get("record")))
def test_rules_ask_for_what_servers_export(rule: Mapping[str, str]) -> None:
    """Every rule parses, and names metrics and labels that exist."""
    assert not faults(parse(rule["expr"]))


@pytest.mark.parametrize("rule", NAMED, ids=lambda rule: rule["alert"])
def test_every_alert_is_tested_and_explained(rule: Mapping[str, str]) -> None:
    """An alert has a case in which it fires, and a section that says what it means and what to do."""
    assert f"alertname: {rule['alert']}\n        exp_alerts:" in ALERTS.with_name("alerts_test.yml").read_text()
    assert re.search(rf"^#+ {rule['alert']}$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)


def test_alerts_fire_when_they_should_and_only_then() -> None:
    """Prometheus' own unit tests of the rules pass."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    cases = ALERTS.with_name("alerts_test.yml")

    for arguments in (
        ["check", "config", str(ALERTS.with_name("prometheus.yml"))],
        ["test", "rules", str(cases)],
    ):
        result = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)

        assert result.returncode == 0, result.stdout + result.stderr
