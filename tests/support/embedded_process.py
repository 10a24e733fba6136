"""An owner of an embedded database: `python -m tests.support.embedded_process DATA_DIR [fork]`.

Prints the server's URI and process id, and with `fork` the process id of a forked worker, then waits for its end.
"""

import json
import os
import signal
import sys
from pathlib import Path

from trueport.storage.embedded import EmbeddedMongo


def main(data_dir: str, *options: str) -> None:
    embedded = EmbeddedMongo(Path(data_dir))
    told = {"uri": embedded.start(), "pid": embedded.pid, "worker": 0}
    if "fork" in options:
        worker = os.fork()
        if worker == 0:
            embedded.stop()
            signal.pause()
        told["worker"] = worker
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()
    embedded.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
