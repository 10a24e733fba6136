"""What this domain keeps for the life of the process: signing keys, hashing threads, the memory of failed sign-ins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from trueport.domains.auth.passwords import PasswordHasher
from trueport.domains.auth.throttle import SignInThrottle
from trueport.domains.auth.tokens import TokenSigner
from trueport.web.domain import Resources


@dataclass(frozen=True, slots=True)
class AuthTools:
    """See the classes."""

    signer: TokenSigner
    passwords: PasswordHasher
    throttle: SignInThrottle


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
        del resources.parts[AuthTools]
        passwords.close()
