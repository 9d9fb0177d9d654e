"""PromQL as it stands in deploy/: which metrics and labels an expression names, and which a server exports."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import promql_parser
import yaml
from prometheus_client.metrics import MetricWrapperBase

from server.metrics import Metrics
from tests.conftest import ROOT

ALERTS = ROOT / "deploy/prometheus/alerts.yml"
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}
_OF_TARGETS = frozenset({"job", "instance", "service"})  # Prometheus gives them to every series that it scrapes
_GRAFANA_VARIABLE = re.compile(r"\$__rate_interval")


@dataclass(frozen=True)
class Selector:
    """One metric in an expression, and the labels that it is asked by."""

    metric: str
    labels: frozenset[str]


@dataclass(frozen=True)
class Expression:
    """A parsed expression: its selectors, and the labels that aggregations and matchings name."""

    text: str
    selectors: tuple[Selector, ...]
    grouped_by: frozenset[str]


def parse(text: str) -> Expression:
    """Parse an expression; what Grafana fills in is filled in. Raises ValueError where it is not PromQL."""
    selectors: list[Selector] = []
    grouped_by: set[str] = set()

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            labels = frozenset(matcher.name for matcher in node.matchers.matchers)
            selectors.append(Selector(node.name or "", labels))
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            grouped_by.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(_GRAFANA_VARIABLE.sub("1m", text)), visit)
    return Expression(text, tuple(selectors), frozenset(grouped_by))


def exported() -> dict[str, frozenset[str]]:
    """Return the labels of every series that a server's page can hold, by the series' name."""
    metrics = Metrics()
    own = {
        family.name: frozenset(collector._labelnames)
        for collector in vars(metrics).values()
        if isinstance(collector, MetricWrapperBase)
        for family in collector.describe()
    }
    return {
        family.name + suffix: own.get(family.name, frozenset())
        | _OF_TARGETS
        | ({"le"} if suffix == "_bucket" else set())
        for family in metrics.registry.collect()
        for suffix in _SUFFIXES[family.type]
    }


def known() -> dict[str, frozenset[str]]:
    """Return `exported`, what Prometheus itself adds, and what our rules record."""
    recorded = {rule["record"]: parse(rule["expr"]).grouped_by for rule in rules(ALERTS) if "record" in rule}
    return {**exported(), "up": _OF_TARGETS, "ALERTS": frozenset({"alertname", "alertstate"}), **recorded}


def rules(path: Path) -> list[Mapping[str, str]]:
    """Return the rules of all groups in a file."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def faults(expression: Expression) -> list[str]:
    """Return what an expression names that does not exist: metrics, and labels of metrics."""
    names = known()
    unknown = [f"metric {selector.metric}" for selector in expression.selectors if selector.metric not in names]
    selectors = [selector for selector in expression.selectors if selector.metric in names]
    unknown += [
        f"label {label} of {selector.metric}"
        for selector in selectors
        for label in selector.labels - names[selector.metric]
    ]
    anywhere = frozenset().union(*(names[selector.metric] for selector in selectors))
    return unknown + [f"label {label} in {expression.text}" for label in expression.grouped_by - anywhere]
