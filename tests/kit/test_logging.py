"""What reaches the log, and what never does."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from trueport.kit.logging import JsonFormatter, configure_logging, get_logger

CANARY = "canary-51be77"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """A handler with the product's formatter on a logger of its own."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test.product")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)


def test_an_event_is_one_line_of_json_with_its_fields(lines: io.StringIO) -> None:
    get_logger("test.product").info("interaction_settled", interaction="int_1", status=200)

    line = json.loads(lines.getvalue())
    assert (line["event"], line["interaction"], line["status"]) == ("interaction_settled", "int_1", 200)
    assert lines.getvalue().count("\n") == 1


def test_a_field_that_is_not_listed_does_not_leave_but_its_name_does(lines: io.StringIO) -> None:
    get_logger("test.product").info("call_failed", prompt=CANARY, status=500)

    assert CANARY not in lines.getvalue()
    assert json.loads(lines.getvalue())["dropped_fields"] == ["prompt"]


@pytest.mark.parametrize("text", ["a\r\nb", "\x1b[31mred", "x\u2028y", "\u202eabc", "\x00"])
def test_control_characters_arrive_escaped_in_one_line(lines: io.StringIO, text: str) -> None:
    get_logger("test.product").info("call_failed", reason=text)

    written = lines.getvalue()
    assert written.count("\n") == 1
    assert text not in written
    assert written.isascii()
    assert json.loads(written)["reason"] == text


def test_long_values_are_cut(lines: io.StringIO) -> None:
    get_logger("test.product").info("call_failed", reason="x" * 10_000)

    assert len(lines.getvalue()) < 1_000


def test_a_librarys_message_leaves_without_its_arguments(lines: io.StringIO) -> None:
    logging.getLogger("test.product").error("cannot reach %s", CANARY)
    logging.getLogger("test.product").error(f"cannot reach {CANARY}")

    assert CANARY not in lines.getvalue()
    assert lines.getvalue().count("library_message") == 2


def test_an_exception_leaves_its_type_only(lines: io.StringIO) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("test.product").exception("failed")

    assert CANARY not in lines.getvalue()
    assert json.loads(lines.getvalue())["error_type"] == "ValueError"


def test_what_is_queued_is_written_when_logging_stops() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        listener = configure_logging(stream=stream)
        get_logger("test.other").warning("journal_not_drained", reason="x")
        listener.stop()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    assert "journal_not_drained" in stream.getvalue()
