"""The worker process of a running server: replaced when it ends or when asked, and ended with its supervisor."""

import asyncio
import signal
from pathlib import Path

from tests.support.chaos_load import workers_of
from tests.support.installation import PATIENCE_S, eventually, installation


async def test_a_worker_is_replaced_when_it_dies_and_when_asked_and_ends_at_sigterm(tmp_path: Path) -> None:
    with installation(tmp_path / "data", TRUEPORT_WORKERS="1") as place:
        place.set_up()
        place.serve()
        server = place.server
        assert server is not None
        await eventually(lambda: len(workers_of(place)) == 1, within_s=PATIENCE_S)
        first = {one.pid for one in workers_of(place)}

        workers_of(place)[0].kill()
        await eventually(lambda: len({one.pid for one in workers_of(place)} - first) == 1, within_s=PATIENCE_S)
        second = {one.pid for one in workers_of(place)}
        server.send_signal(signal.SIGHUP)
        await eventually(lambda: len({one.pid for one in workers_of(place)} - second - first) == 1, within_s=PATIENCE_S)
        await asyncio.to_thread(place.wait_ready)
        await asyncio.to_thread(place.stop)

        assert server.returncode == 0
