from server import errors
from server.errors import DeadlineExceeded, Overloaded, ServingError
from server.statuses import STATUS, trailers_of


def test_every_error_has_a_status() -> None:
    """A new ServingError cannot be forgotten in the table."""
    assert set(STATUS) == set(ServingError.__subclasses__())


def test_tree_in_the_docstring_is_complete() -> None:
    """The drawing at the top of the file names every error."""
    assert errors.__doc__ is not None
    for error in ServingError.__subclasses__():
        assert f"── {error.__name__} " in errors.__doc__


def test_overload_says_when_to_retry_in_milliseconds() -> None:
    """The trailer that gRPC's retries obey is a positive whole number of milliseconds."""
    assert trailers_of(Overloaded("full", retry_after_seconds=0.25)) == (("grpc-retry-pushback-ms", "250"),)
    assert trailers_of(Overloaded("full", retry_after_seconds=0.0)) == (("grpc-retry-pushback-ms", "1"),)


def test_other_errors_have_no_trailers() -> None:
    """Only an overload is worth a delayed retry."""
    assert trailers_of(DeadlineExceeded("late")) == ()
