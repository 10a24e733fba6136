"""Ending tasks that run until they are told to stop."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

_PATIENCE_S: Final = 2.0
"""How long a task may take over its own ending before it is told again."""


async def ended(tasks: Collection[asyncio.Task[Any]], *, patience_s: float = _PATIENCE_S) -> None:
    """Cancel the tasks and wait until the last has ended, however it ends.

    A task is cancelled again where it goes on: a wait that is over in the moment of its cancellation swallows it
    (`asyncio.wait_for` of Python 3.11 does, and database drivers stand on it), and a loop around it would never end.
    """
    going_on: set[asyncio.Task[Any]] = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=patience_s)
    await asyncio.gather(*tasks, return_exceptions=True)
