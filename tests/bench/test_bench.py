"""The benchmark runs; what it measures is for `make bench` to say."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_measures_a_small_load_without_failed_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--json", "--rounds", "1", "--calls", "60", "--connections", "4"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    medians = json.loads(done.stdout)["medians"]
    assert medians["failed"] == 0
    assert medians["gateway_cpu_us_per_call"] > 0
    assert medians["gateway_cpu_us_per_event"] > 0
