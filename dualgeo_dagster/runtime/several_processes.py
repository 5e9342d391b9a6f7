"""Runs a Python module on several processes of this machine.

    python -m dualgeo_dagster.runtime.several_processes PROCESSES MODULE [ARGUMENT ...]

If a process fails, the others are ended. The exit code is that of the first process that failed; 128 + the number of
the signal if a signal ended it.
"""

import logging
import sys

from dualgeo_core.model.interruption import STOPPED


def main() -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as launch

    # The process that failed has reported its error; torch would add its own account of it.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    processes, *module = sys.argv[1:]
    try:
        launch(["--standalone", "--nproc-per-node", processes, "-m", *module])
    except ChildFailedError as failed:
        code = failed.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else 128 - code)
    except SignalException:
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
