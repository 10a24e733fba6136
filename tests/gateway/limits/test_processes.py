import os
import subprocess
import sys

from tests.support.limits import fresh_pepper, set_time
from trueport.kit.clock import SystemClock

PROCESSES = 8


def test_eight_processes_together_admit_exactly_the_limit(redis_url: str) -> None:
    """Redis's clock stands still for the test, so that no minute's edge can add to the limit."""
    limit, tries = 300, 200
    time_key = f"test_clock_{os.urandom(8).hex()}"
    set_time(redis_url, time_key, SystemClock())
    arguments = [redis_url, fresh_pepper().hex(), time_key, str(tries), str(limit)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.limits_process", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outcomes = [process.communicate(timeout=60)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()

    passed = [int(outcome[0]) for outcome in outcomes]
    assert sum(passed) == limit
    assert all(outcome[1] == "0" for outcome in outcomes)
