"""Tasks that run for good end when they are told to."""

import asyncio

from trueport.kit.tasks import ended


async def running_for_good() -> None:
    await asyncio.Event().wait()


async def test_tasks_are_over_once_ended() -> None:
    tasks = [asyncio.create_task(running_for_good()) for _ in range(3)]
    await asyncio.sleep(0)

    await ended(tasks)

    assert all(task.cancelled() for task in tasks)


async def test_a_loop_that_swallows_its_cancellation_is_told_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed == 3:
                    raise
                swallowed += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)

    await ended([task], patience_s=0.01)

    assert task.cancelled()
    assert swallowed == 3


async def test_a_task_that_failed_is_over_without_a_word() -> None:
    async def failing() -> None:
        raise ValueError

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)

    await ended([task])

    assert isinstance(task.exception(), ValueError)


async def test_no_tasks_are_over_at_once() -> None:
    await ended([])
