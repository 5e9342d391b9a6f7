"""Lines on stdout and stderr for commands that finish their files even if nobody reads the lines any more."""

import os
import sys

import typer

READER_LEFT = 141  # the exit code that a shell reports for a tool that a closed pipe has ended: 128 + SIGPIPE


def say(line: str, *, to_stderr: bool = False) -> bool:
    """Prints a line; False if the reader has closed the pipe. Later lines on this stream then go nowhere."""
    try:
        typer.echo(line, err=to_stderr)
    except BrokenPipeError:
        # The stream still holds the line. Python would write it at the end, and complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (sys.stderr if to_stderr else sys.stdout).fileno())
        os.close(nowhere)
        return False
    return True


def tell(line: str) -> None:
    """Prints a line on stderr, if anybody reads it."""
    say(line, to_stderr=True)
