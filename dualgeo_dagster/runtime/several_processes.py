"""Runs a Python module on several processes of this machine, alone or together with other machines (torchrun).

    python -m dualgeo_dagster.runtime.several_processes [OPTION OF TORCHRUN ...] -m MODULE [ARGUMENT ...]

If a process fails, the others of this machine are ended; all are ended if the parent process dies. The exit code is
that of the first process that failed; 128 + the number of the signal if a signal ended it.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence

from dualgeo_core.model.interruption import STOPPED, stop_with_parent
from dualgeo_core.settings import Environment

USER_ERROR, OUTAGE = 2, os.EX_TEMPFAIL  # exit codes of a training process after a message to Dagster
STOP_SECONDS = 240  # time limit for training to finish its step and write a checkpoint
ENDING_SECONDS = 20  # of these: for the launcher, after its processes
KILLED_CODE = 128 + signal.SIGKILL
KILLED = (
    "training was killed, most likely because memory ran out: lower training.batch_size first, then model.width, "
    "model.label_grid or training.gps_queue. With unchanged settings, the next run resumes from the last checkpoint"
)


def launch_command(processes: int, *, together: Sequence[str] = ()) -> list[str]:
    """The command that runs a module on so many processes of this machine; append the module and its arguments.

    `together` are the options with which torchrun finds the other machines.
    """
    if processes == 1 and not together:
        return [sys.executable, "-m"]
    options = [*(together or ["--standalone"]), "--nproc-per-node", str(processes)]
    options += ["--shutdown-timeout", str(STOP_SECONDS - ENDING_SECONDS)]
    return [sys.executable, "-m", "dualgeo_dagster.runtime.several_processes", *options, "-m"]


def child_environment() -> dict[str, str]:
    """The environment in which a training process, or its launcher, stops at the death of this process."""
    return {**os.environ, "DUALGEO_TRAINING_PARENT": str(os.getpid())}


def main() -> None:
    stop_with_parent(Environment().training_parent or os.getppid())
    os.environ.update(child_environment())  # torchrun's processes inherit it
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as launch

    # The process that failed has reported its error; torch would add its own account of it.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        launch(sys.argv[1:])
    except ChildFailedError as failed:
        code = failed.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else 128 - code)
    except SignalException:
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
