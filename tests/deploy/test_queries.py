import pytest

from tests.deploy.queries import exported, faults, parse


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(cifarserve_requests[5m])", "metric cifarserve_requests"),
        ('cifarserve_queue_items{modle="quick"}', "label modle of cifarserve_queue_items"),
        ("sum by (reason) (rate(cifarserve_requests_total[5m]))", "label reason in"),
        ("sum by (le) (cifarserve_queue_items)", "label le in"),
    ],
)
def test_names_that_do_not_exist_are_found(expression: str, fault: str) -> None:
    """A metric or a label that no server exports would be an empty panel, or an alert that never fires."""
    [found] = faults(parse(expression))

    assert found.startswith(fault)


def test_names_that_exist_are_no_fault() -> None:
    """Metrics of every kind, with their own labels and those of a target."""
    assert not faults(parse("sum by (le, model) (rate(cifarserve_batch_size_bucket{instance='a'}[$__rate_interval]))"))
    assert not faults(parse("process_open_fds / up"))
    assert "cifarserve_requests_total" in exported()


def test_what_is_not_promql_is_refused() -> None:
    """A typing error in an expression is found by the tests, not by Grafana."""
    with pytest.raises(ValueError, match="unclosed"):
        parse("sum(rate(up[5m])")
