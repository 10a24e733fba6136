"""Passwords: which ones are accepted, and their argon2id hashes.

Parameters: 46 MiB, one pass, one lane (OWASP password storage cheat sheet; ASVS 5 appendix C), about 70 ms. Hashing
runs in two threads of its own, and beyond a short queue it is refused: sign-in must not starve the gateway.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, cast

from passlib.hash import argon2

from trueport.kit.errors import InvalidRequest, Unavailable

# NIST SP 800-63B-4 asks for 15 where the password is the only factor; no second factor is offered at present, and
# the names people pick for themselves would be refused too often at 15 by services they compare us with. Twelve, with
# the list and the context words below, is the floor; the length of a pass phrase costs nobody anything.
SHORTEST: Final = 12
LONGEST: Final = 256
_THREADS: Final = 2
_QUEUE: Final = 20

T = TypeVar("T")

_SCHEME: Final = argon2.using(  # type: ignore[no-untyped-call]  # passlib's stubs leave it untyped
    type="ID", memory_cost=47104, rounds=1, parallelism=1
)
# Verified for an unknown e-mail, so that it takes as long as a known one. The hash of 32 random bytes, thrown away.
_DUMMY: Final = "$argon2id$v=19$m=47104,t=1,p=1$pnSuVWqN0ZpTSmkN4TznvA$Tkz7tsDNZ7cRni+rMjTXxH28e9RiO5UmRmxoRZA+I2Q"

_COMMON_PARTS: Final = (
    "password", "passw0rd", "p@ssword", "p@ssw0rd", "12345", "qwerty", "qwertz", "azerty", "letmein", "iloveyou",
    "welcome", "administrator", "changeme", "asdfgh", "zxcvbn", "1q2w3e", "abc123", "trustno1", "trueport",
)  # fmt: skip
_SHORTEST_CONTEXT_WORD: Final = 4
_FEWEST_OTHER_CHARACTERS: Final = 6
_FEWEST_DISTINCT: Final = 5


class WeakPassword(InvalidRequest):
    """The password is too short, too long, or too easy to guess."""

    code = "weak_password"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, errors=[{"field": "password", "message": reason}])


def check_password(password: str, *, context: tuple[str, ...]) -> None:
    """Raises WeakPassword for what an attacker tries first.

    No composition rules. Refused is what is little more than a common password or a word of the `context` (parts of
    the e-mail address, names): fewer than six characters remain when those are taken out.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise WeakPassword(f"A password has {SHORTEST} to {LONGEST} characters.")
    if len(set(password)) < _FEWEST_DISTINCT:
        raise WeakPassword("This password repeats itself too much.")
    words = [word.lower() for word in context if len(word) >= _SHORTEST_CONTEXT_WORD]
    rest = password.lower()
    for word in sorted((*_COMMON_PARTS, *words), key=len, reverse=True):
        rest = rest.replace(word, "")
    if len(rest) < _FEWEST_OTHER_CHARACTERS and rest != password.lower():
        raise WeakPassword("This password is a common one, or made of your own name or address.")


class PasswordHasher:
    """Hashes and verifies in its own threads. `close` waits for what runs."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._at_work = 0

    async def hash(self, password: str) -> str:
        """Raises Unavailable when too many wait."""
        return await self._run(lambda: cast(str, _SCHEME.hash(password)))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password fits; False after the same work when there is nothing stored. Raises Unavailable."""
        fits = await self._run(lambda: bool(_SCHEME.verify(password, stored or _DUMMY)))
        return fits and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return bool(_SCHEME.needs_update(stored))

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._at_work >= _THREADS + _QUEUE:
            raise Unavailable("Too many people are signing in at the moment.")
        self._at_work += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._at_work -= 1
