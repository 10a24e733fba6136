"""Logging never holds up the work: what does not fit into the queue is dropped and counted."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from logging.handlers import QueueListener

import pytest

from trueport.kit import logging as product_logging
from trueport.kit.logging import configure_logging, get_logger

PATIENCE_S = 20.0


class StuckPipe(io.StringIO):
    """A stream whose reader has stopped reading until `flows` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = threading.Event()
        self.flows = threading.Event()

    def write(self, text: str) -> int:
        self.is_asked.set()
        assert self.flows.wait(PATIENCE_S)
        return super().write(text)


@pytest.fixture
def pipe() -> Iterator[StuckPipe]:
    """A stuck pipe, and the root logger as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = StuckPipe()
    yield made
    made.flows.set()
    root.handlers[:] = handlers
    root.setLevel(level)


def stuck(pipe: StuckPipe, monkeypatch: pytest.MonkeyPatch, *, room: int) -> QueueListener:
    """Logging with a queue of `room` records, its writer stuck in the first one."""
    monkeypatch.setattr(product_logging, "_QUEUE_LENGTH", room)
    monkeypatch.setattr(product_logging._DroppingQueueHandler, "dropped", 0)
    listener = configure_logging(stream=pipe)
    get_logger("test.queue").info("line_written", count=-1)
    assert pipe.is_asked.wait(PATIENCE_S)
    return listener


def test_a_full_queue_drops_and_counts_instead_of_waiting(pipe: StuckPipe, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = stuck(pipe, monkeypatch, room=5)

    for number in range(12):
        get_logger("test.queue").info("line_written", count=number)

    assert product_logging._DroppingQueueHandler.dropped == 7
    pipe.flows.set()
    listener.stop()
    assert [json.loads(line)["count"] for line in pipe.getvalue().splitlines()] == [-1, 0, 1, 2, 3, 4]


def test_logging_stops_in_order_although_its_queue_is_full(pipe: StuckPipe, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = stuck(pipe, monkeypatch, room=2)
    for number in range(3):
        get_logger("test.queue").info("line_written", count=number)

    stopping = threading.Thread(target=listener.stop)
    stopping.start()
    pipe.flows.set()
    stopping.join(PATIENCE_S)

    assert not stopping.is_alive()
    assert len(pipe.getvalue().splitlines()) == 3


def test_every_logger_of_the_process_goes_through_the_queue(pipe: StuckPipe) -> None:
    pipe.flows.set()
    listener = configure_logging(level="WARNING", stream=pipe)
    get_logger("test.queue").info("too_quiet")
    logging.getLogger("some.library").warning("called %s", "argument-canary")
    listener.stop()

    (line,) = pipe.getvalue().splitlines()
    assert "argument-canary" not in line
    assert json.loads(line)["logger"] == "some.library"
