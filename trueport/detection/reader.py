"""The reading process: `python -m trueport.detection.reader FOLDER`, with the gateway's socket as standard input.

It holds the embedded model and reads what the gateway sends. It ends with the gateway: the socket then has an end.
"""

import asyncio
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from trueport.detection.accounting import Work
from trueport.detection.artefact import BrokenArtefact
from trueport.detection.base import DetectorFailed
from trueport.detection.frames import Answer, Broken, Leave, Read, Ready, frame, next_question
from trueport.detection.onnx import OnnxDetector
from trueport.detection.views import for_models
from trueport.kit.logging import configure_logging, get_logger

log = get_logger(__name__)

NICENESS: Final = 10
"""Behind the gateways and databases of the machine, yet not so far that a busy one would read nothing any more."""


def main() -> None:
    # The gateway alone says when this ends: a signal to the whole group must not cut off calls it lets finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)
    configure_logging(level="WARNING")
    asyncio.run(serve(Path(sys.argv[1]), socket.socket(fileno=sys.stdin.fileno())))


async def serve(folder: Path, connection: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        detector = OnnxDetector(folder, views=for_models)
        await detector.prepare()
    except (BrokenArtefact, DetectorFailed) as error:
        writer.write(frame(Broken(str(error.__cause__ or error))))
        await writer.drain()
        return
    writer.write(frame(Ready(detector.version)))
    answers = Answers(detector, writer)
    try:
        while True:
            match await next_question(reader):
                case Read() as question:
                    answers.start(question)
                case Leave(number):
                    answers.leave(number)
    except (EOFError, OSError):
        # At once: threads in the middle of a text would be waited for otherwise, and nothing here is to be kept.
        os._exit(0)


class Answers:
    """The calls under way."""

    def __init__(self, detector: OnnxDetector, writer: asyncio.StreamWriter) -> None:
        self._detector = detector
        self._writer = writer
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._told = Work()

    def start(self, question: Read) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(question))
        self._calls[question.number] = task
        task.add_done_callback(lambda _: self._calls.pop(question.number, None))

    def leave(self, number: int) -> None:
        task = self._calls.get(number)
        if task is not None:
            task.cancel()

    async def _answer(self, question: Read) -> None:
        try:
            readings = tuple(await self._detector.read(question.passages, question.wanted))
            answer = Answer(question.number, self._news(), readings)
        except DetectorFailed as failed:
            answer = Answer(question.number, self._news(), failed=failed.code)
        except Exception as error:  # noqa: BLE001 - somebody waits for an answer, whatever goes wrong here
            # The type alone: a message may quote the text.
            log.error("detector_broke", component=self._detector.name, error_type=type(error).__name__)
            answer = Answer(question.number, self._news(), failed="contract")
        self._writer.write(frame(answer))

    def _news(self) -> Work:
        """What was done since it was told last."""
        now, before = self._detector.work, self._told
        self._told = replace(now)
        return Work(
            now.windows_read - before.windows_read,
            now.windows_remembered - before.windows_remembered,
            now.cpu_s - before.cpu_s,
        )


if __name__ == "__main__":
    main()
