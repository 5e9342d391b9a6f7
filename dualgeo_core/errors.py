"""The one exception that is the user's to mend."""


class InputError(ValueError):
    """Input that cannot be used: one line that says what, where, and how to mend it.

    The command line prints the line and exits with 2; Dagster shows it as the step's failure.
    """
