"""Structured logs: one JSON line per event, and only fields on the allow-list leave the process.

A field that is not listed is dropped and its name counted under `dropped_fields`, so that a careless call shows
up in review and in the log itself, but its value does not. Prompts, completions, headers and secrets have no
field to travel in.
"""

import json
import logging
import queue
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Final, TextIO

ALLOWED_FIELDS: Final = frozenset(
    {
        "action",
        "address",
        "attempt",
        "attempts",
        "bytes",
        "code",
        "collection",
        "command",
        "component",
        "count",
        "cost_nano_usd",
        "data_dir",
        "deadline_s",
        "dialect",
        "domain",
        "duration_ms",
        "environment",
        "error_type",
        "event_type",
        "exit_code",
        "interaction",
        "job",
        "key_id",
        "latency_ms",
        "limit",
        "method",
        "mode",
        "model",
        "operation",
        "path_template",
        "period",
        "pid",
        "port",
        "provider",
        "reason",
        "records",
        "request_id",
        "restarts",
        "route",
        "scope",
        "segment",
        "setting",
        "share",
        "size_bytes",
        "state",
        "status",
        "stream",
        "target",
        "tenant_id",
        "tokens_in",
        "tokens_out",
        "user_id",
        "version",
        "workers",
        "writer",
    }
)

_LONGEST_VALUE: Final = 200
_QUEUE_LENGTH: Final = 10_000


class Log:
    """A logger whose events are names in the past tense and whose details are fields."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields})


def get_logger(name: str) -> Log:
    return Log(logging.getLogger(name))


class JsonFormatter(logging.Formatter):
    """One line of JSON; ASCII only, so that control, bidi and line-separator characters arrive escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line["event"] = record.msg
            line.update(permitted(fields))
        else:
            # A library's own message may quote arguments, URLs or bodies. A template says enough; a message that
            # came without arguments may be one that was filled in already, so only its place is told.
            line["event"] = "library_message"
            line["place"] = f"{record.module}:{record.lineno}"
            if record.args:
                line["template"] = str(record.msg)[:_LONGEST_VALUE]
        if record.exc_info and record.exc_info[0] is not None:
            # The type only: messages and frames can hold what a caller sent.
            line["error_type"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=True, default=str)


def permitted(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields that may be written, values cut to a bounded length."""
    kept: dict[str, object] = {}
    dropped = []
    for name, value in fields.items():
        if name in ALLOWED_FIELDS:
            kept[name] = value if isinstance(value, int | float | bool | None) else str(value)[:_LONGEST_VALUE]
        else:
            dropped.append(name)
    if dropped:
        kept["dropped_fields"] = sorted(dropped)
    return kept


class _DroppingQueueHandler(QueueHandler):
    """Never blocks a request on a full log pipe: what does not fit is dropped and counted."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            type(self).dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


class _PatientListener(QueueListener):
    """Can be stopped while its queue is full; the library's own would raise queue.Full."""

    def enqueue_sentinel(self) -> None:
        backlog: queue.Queue[logging.LogRecord | None] = self.queue  # type: ignore[assignment]  # what we gave it
        backlog.put(None)


def configure_logging(*, level: str = "INFO", stream: TextIO | None = None) -> QueueListener:
    """Send every logger of the process to `stream` (standard error) as JSON lines, from a thread of its own.

    Returns the running listener; its `stop()` flushes what is queued.
    """
    backlog: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUE_LENGTH)
    target = logging.StreamHandler(stream or sys.stderr)
    target.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [_DroppingQueueHandler(backlog)]
    root.setLevel(level)
    listener = _PatientListener(backlog, target)
    listener.start()
    return listener
