"""Policies that change nothing, over a stream: they see every text, and no text waits for them."""

import asyncio
from typing import Final

from msgspec.structs import replace

from trueport.detection.policy import Judged, Unscannable
from trueport.detection.policy.decision import SEVERITY
from trueport.gateway.call import Judgement
from trueport.gateway.guard.arguments import ArgumentsChannel
from trueport.gateway.guard.base import Judge, extract
from trueport.gateway.guard.channel import Channel, TextChannel
from trueport.gateway.guard.forms import ChannelName, Slot
from trueport.gateway.texts import Part
from trueport.kit.errors import TrueportError

# Read in bundles of at least this many pieces; the rest at the end of the stream.
_BUNDLE: Final = 32


class Watch:
    """Reads behind the stream. A task of its own runs only while there is something to read."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._channels: dict[ChannelName, Channel] = {}
        self._waiting: list[Slot | Part] = []
        self._task: asyncio.Task[None] | None = None

    def joined_to(self, judgement: Judgement) -> Judgement:
        """The judgement with what was seen here."""
        own = self._judge.judgement
        decision = max(judgement.decision, own.decision, key=SEVERITY.__getitem__)
        return replace(
            judgement,
            decision=decision,
            hits=(*judgement.hits, *own.hits),
            scores=judgement.scores or own.scores,
            failures=tuple(dict.fromkeys((*judgement.failures, *own.failures))),
            took_us=judgement.took_us + own.took_us,
        )

    @property
    def entries(self) -> tuple[Judged | Unscannable, ...]:
        """What the judge found."""
        return self._judge.entries

    def append(self, slot: Slot) -> None:
        """A piece of a channel."""
        self._add(slot)

    def text(self, part: Part) -> None:
        """A text that stands by itself."""
        self._add(part)

    def content(self, content: Unscannable) -> None:
        """Something that cannot be read."""
        self._judge.content(content)

    async def finish(self) -> None:
        """Read what is left."""
        if self._task is not None:
            await self._task
        await self._read_waiting()
        for channel in self._channels.values():
            await channel.end()

    def _add(self, one: Slot | Part) -> None:
        if self._judge.rhythm is None:
            return
        self._waiting.append(one)
        if (self._task is None or self._task.done()) and len(self._waiting) >= _BUNDLE:
            self._task = asyncio.get_running_loop().create_task(self._read_waiting())

    async def _read_waiting(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            for one in taken:
                try:
                    await self._read(one)
                except TrueportError:
                    # Nothing here ends a stream; what was found is in the judgement.
                    continue

    async def _read(self, one: Slot | Part) -> None:
        if isinstance(one, Part):
            await self._judge.read([extract(one.path, one.passage.text, one.passage.role)])
            return
        channel = self._channels.get(one.channel)
        if channel is None:
            path = ".".join(str(step) for step in one.channel if step != "None")
            channel = ArgumentsChannel(path, self._judge) if one.is_json else TextChannel(path, one.role, self._judge)
            self._channels[one.channel] = channel
        await channel.append(one.text)
