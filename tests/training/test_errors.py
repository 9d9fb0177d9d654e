from training import errors


def test_every_error_is_in_the_drawn_tree() -> None:
    """The tree at the top of the module shows every error there is, one line each."""
    drawn = [line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.startswith(("├──", "└──"))]

    assert drawn == [error.__name__ for error in errors.TrainingError.__subclasses__()]
