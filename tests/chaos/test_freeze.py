"""Processes that are frozen for ever as soon as a client has its answer, as AWS Lambda does: nothing may be missing."""

import http.client
import json
import os
import signal

import psutil
import pytest

from tests.support.chaos_load import chat, database_of, ledger, workers_of
from tests.support.installation import Installation


def _ask(place: Installation, *, stream: bool, key: str | None = None) -> int:
    """One call, read to its last byte."""
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=20)
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(chat("hi [[tokens: 5]]", stream=stream)),
            {"authorization": f"Bearer {key or place.key}", "content-type": "application/json"},
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _freeze(place: Installation) -> None:
    assert place.server is not None
    for process in (*workers_of(place), psutil.Process(place.server.pid)):
        process.send_signal(signal.SIGSTOP)


def _kinds(place: Installation) -> list[str]:
    return sorted(str(record["kind"]) for record in place.call_records())


@pytest.mark.parametrize("stream", [False, True])
def test_frozen_right_after_its_answer_a_process_has_left_nothing_unrecorded(place: Installation, stream: bool) -> None:
    place.serve(TRUEPORT_AUDIT_SYNC="1")
    # Calls before it, so that everything is warm and only the records are waited for.
    statuses = [_ask(place, stream=stream) for _ in range(3)]
    workers = workers_of(place)

    statuses.append(_ask(place, stream=stream))
    _freeze(place)

    assert statuses == [200] * 4
    assert _kinds(place) == ["intent"] * 4 + ["outcome"] * 4
    assert not [path for path in (place.data_dir / "spool").rglob("*") if path.is_file()]
    assert all(worker.status() == psutil.STATUS_STOPPED for worker in workers)


def test_a_frozen_process_that_wakes_up_goes_on(place: Installation) -> None:
    place.serve(TRUEPORT_AUDIT_SYNC="1")
    assert _ask(place, stream=False) == 200
    _freeze(place)

    for process in workers_of(place):
        process.send_signal(signal.SIGCONT)
    assert place.server is not None
    os.kill(place.server.pid, signal.SIGCONT)

    assert _ask(place, stream=True) == 200
    assert _kinds(place) == ["intent"] * 2 + ["outcome"] * 2


def test_without_a_database_no_provider_is_asked(place: Installation) -> None:
    place.serve(TRUEPORT_AUDIT_SYNC="1")
    assert _ask(place, stream=False) == 200
    database = database_of(place)
    database.send_signal(signal.SIGSTOP)
    try:
        asked_before = len(ledger(place.simulator))
        status = _ask(place, stream=False)
        asked_after = len(ledger(place.simulator))
    finally:
        database.send_signal(signal.SIGCONT)

    assert (status, asked_after) == (503, asked_before)
