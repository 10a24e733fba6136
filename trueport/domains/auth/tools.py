"""What this domain keeps for the life of the process: signing keys, hashing threads, the memory of failed sign-ins."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from trueport.domains.auth.passwords import PasswordHasher
from trueport.domains.auth.throttle import SignInThrottle
from trueport.domains.auth.tokens import TokenSigner
from trueport.web.domain import Resources


class Later:
    """Work that an answer does not wait for. What is not done when the process ends is left."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Done when everything that has been begun is."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.settled()


@dataclass(frozen=True, slots=True)
class AuthTools:
    """See the classes."""

    signer: TokenSigner
    passwords: PasswordHasher
    throttle: SignInThrottle
    later: Later = field(default_factory=Later)


@asynccontextmanager
async def open_tools(resources: Resources) -> AsyncIterator[None]:
    """Lifespan hook: adds an AuthTools to the parts, and ends its threads."""
    passwords = PasswordHasher()
    resources.parts[AuthTools] = AuthTools(
        signer=TokenSigner(resources.settings.keys.token_secrets, resources.clock),
        passwords=passwords,
        throttle=SignInThrottle(resources.clock),
    )
    try:
        yield
    finally:
        await resources.part(AuthTools).later.close()
        del resources.parts[AuthTools]
        passwords.close()
