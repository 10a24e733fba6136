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
    found = json.loads(done.stdout)
    medians = found["medians"]
    assert medians["failed"] == 0
    for name in ("gateway_cpu_us_per_call", "database_cpu_us_per_call", "gateway_calls_per_s", "direct_calls_per_s",
                 "direct_p50_ms", "gateway_cpu_us_per_event", "direct_first_event_ms", "loaded_mib"):  # fmt: skip
        assert medians[name] > 0, name
    assert 0 < medians["events_alone_share"] <= 1
    assert 0 < medians["direct_events_alone_share"] <= 1
    assert "added_first_event_ms" in medians
    assert found["idle_mib"] > 0
    trail = {figure["name"]: figure["value"] for figure in found["recording"]}
    assert len(trail) == len(found["recording"]) >= 8
    for name, value in trail.items():
        assert value > 0 or "on the path of a call" in name, name
    assert {"python", "cores", "conditions", "plan", "held_stream_kib", "rounds"} <= found.keys()


def test_the_benchmark_of_long_prompts_measures_both_kinds_of_calls_without_failed_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.detection", "--json", "--rounds", "1", "--tokens", "1500"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["scan_s"] > 0
    for kind in ("unrelated", "guarded"):
        assert found[kind]["failed"] == 0
        assert found[kind]["calls"] > 0
        assert found[kind]["p99_ratio"] > 0
