"""The stub of a Triton server as a process of its own, to be killed, stopped, slowed down and made to lie.

`python -m tests.support.triton_process PORT` serves until it is killed; each line on standard input is one of `LIES`,
told from then on with every answer.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import numpy as np

from tests.support.ports import free_port
from tests.support.triton_stub import Lie, Response, Stub, serving, slow, usual

SLOW_S: Final = 0.6


def with_nan(answer: Response) -> None:
    values = np.frombuffer(answer.raw_output_contents[0], np.float32)
    answer.raw_output_contents[0] = np.full_like(values, np.nan).tobytes()


def with_another_shape(answer: Response) -> None:
    answer.outputs[0].shape[:] = [*answer.outputs[0].shape, 1]


LIES: Final[Mapping[str, Lie | None]] = {
    "truth": None,
    "slow": slow(SLOW_S),
    "NaN": with_nan,
    "shape": with_another_shape,
}


class TritonProcess:
    """The stub at one port, through any number of deaths."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.triton_process", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def tell(self, lie: str) -> None:
        """Returns once every further answer is of this kind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{lie}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{lie}\n"

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def triton_process() -> Iterator[TritonProcess]:
    triton = TritonProcess()
    try:
        yield triton
    finally:
        triton.kill()


async def serve(port: int) -> None:
    stub = Stub(usual())
    async with serving(stub, port=port):
        print("ready", flush=True)  # noqa: T201 - the parent waits for it
        await asyncio.to_thread(obey, stub)


def obey(stub: Stub) -> None:
    for line in sys.stdin:
        lie = LIES[line.strip()]
        stub.lies = {} if lie is None else dict.fromkeys(stub.models, lie)
        print(line.strip(), flush=True)  # noqa: T201 - the parent waits for it


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
