"""The one exception for errors that the user can fix."""


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: what is wrong, where, and what to do.

    The command line prints the line and exits with code 2.
    """
