"""Ports for servers that have to be told theirs before they start."""

import os
import random
import socket
from collections.abc import Iterator
from itertools import cycle
from typing import Final

# Below what systems hand out for outgoing connections (Linux from 32768, others from 49152): a port that the system
# chose is free when it is looked at and may be anyone's by the time the server has started.
_FIRST: Final = 20_000
_END: Final = 32_000


def free_port() -> int:
    """A loopback port that nobody listens on, and that no other worker of this test run is given."""
    for port in _ports:
        with socket.socket() as probe:
            # As servers do: a port whose last connections are only waiting to be forgotten can be listened on.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("unreachable: ports are gone through again and again")


def _own_ports() -> Iterator[int]:
    """This worker's share, from a random one on: another run beside this one is likely to be elsewhere."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = (_END - _FIRST) // workers
    first = _FIRST + worker * share
    begin = random.SystemRandom().randrange(share)
    return cycle([*range(first + begin, first + share), *range(first, first + begin)])


_ports = _own_ports()
