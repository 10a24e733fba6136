"""People and their sessions: registering, signing in and out, refreshing, changing the password."""

import hmac
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from trueport.domains.auth.events import UserRegistered
from trueport.domains.auth.models import RefreshToken, Session, User
from trueport.domains.auth.passwords import PasswordHasher, check_password
from trueport.domains.auth.refusals import Refusals
from trueport.domains.auth.repository import MembershipsOfUser, RefreshTokens, Sessions, Users
from trueport.domains.auth.tokens import LIFETIME_S, TokenRefused
from trueport.domains.auth.tools import AuthTools
from trueport.kit.crypto import sha256_hex
from trueport.kit.errors import Conflict, Forbidden, InvalidRequest, Unauthenticated, Unavailable
from trueport.kit.ids import UserId, new_id
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import PlatformScope
from trueport.storage.mongo import Duplicate
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources

log = get_logger(__name__)

_LONGEST_EMAIL: Final = 254
_EMAIL: Final = re.compile(
    r"[^\s@\"'<>()\[\]\\,;:\x00-\x1f\x7f$]{1,64}@"
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+"
)
_REFRESH_FOR: Final = timedelta(seconds=LIFETIME_S["refresh"])
_TENANTS_AT_ONCE: Final = 200


class EmailTaken(Conflict):
    """Somebody is registered under this address."""

    code = "email_taken"

    def __init__(self) -> None:
        super().__init__("This e-mail address is registered already.")


class WrongCredentials(Unauthenticated):
    """Unknown address, wrong password or closed account; which one is not told."""

    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__("E-mail address and password do not match.")


class WrongPassword(Forbidden):
    """The present password, asked for once more, was not given."""

    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is not right.")


class RefreshTokenReused(Unauthenticated):
    """The token was used before. Somebody may have copied it, so the whole session has ended."""

    code = "refresh_token_reused"

    def __init__(self) -> None:
        super().__init__("This refresh token was used before. For safety the session has ended: sign in again.")


@dataclass(frozen=True, slots=True)
class NewUser:
    """Somebody to register, as they typed it."""

    email: str
    password: str
    first_name: str
    last_name: str
    is_platform_admin: bool = False


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A global token, and the refresh token to get the next pair with."""

    access: str
    refresh: str


def normalise_email(text: str) -> str:
    """The one spelling an address is stored and looked up in: no surrounding space, all in lower case.

    Strictly the part before the @ may be case-sensitive. No mail provider in use treats it so, and two accounts
    that differ in case only would serve nobody but an impostor. Raises InvalidRequest.
    """
    email = text.strip().lower()
    if len(email) > _LONGEST_EMAIL or not _EMAIL.fullmatch(email):
        raise InvalidRequest(
            "This is not an e-mail address.", errors=[{"field": "email", "message": "is not an e-mail address"}]
        )
    return email


async def create_user(resources: Resources, passwords: PasswordHasher, new: NewUser) -> User:
    """A new person. Raises InvalidRequest, WeakPassword, EmailTaken."""
    users = Users(resources.database, PlatformScope("auth", "registration"))
    email = normalise_email(new.email)
    check_password(new.password, context=_context(email, new.first_name, new.last_name))
    user = User(
        id=new_id("usr"),
        email=email,
        password_hash=await passwords.hash(new.password),
        first_name=new.first_name.strip(),
        last_name=new.last_name.strip(),
        is_platform_admin=new.is_platform_admin,
        created_at=resources.clock.now(),
    )
    try:
        await users.insert(user)
    except Duplicate as error:
        raise EmailTaken from error
    await resources.events.tell(UserRegistered(UserId(user.id)))
    return user


class Accounts:
    """What people do with their own account. It is recorded in each tenant that they belong to."""

    def __init__(self, resources: Resources, tools: AuthTools) -> None:
        scope = PlatformScope("auth", "accounts")
        self._resources = resources
        self._clock = resources.clock
        self._tools = tools
        self._refusals = resources.part(Refusals)
        self._users = Users(resources.database, scope)
        self._sessions = Sessions(resources.database, scope)
        self._refresh_tokens = RefreshTokens(resources.database, scope)
        self._memberships = MembershipsOfUser(resources.database, scope)

    async def register(self, new: NewUser) -> User:
        """Raises InvalidRequest, WeakPassword, EmailTaken."""
        return await create_user(self._resources, self._tools.passwords, new)

    async def sign_in(self, email: str, password: str, deeds: Deeds) -> TokenPair:
        """Tokens of a new session. Raises WrongCredentials, TooManyAttempts.

        An unknown e-mail costs the same work and gets the same answer as a wrong password.
        """
        account, address = email.strip().lower()[:_LONGEST_EMAIL], deeds.actor.address
        self._tools.throttle.check(account, address)
        # Counted before the slow part, so that attempts sent all at once are not all free.
        self._tools.throttle.failed(account, address)
        user = await self._users.by_email(account)
        fits = await self._tools.passwords.verify(password, user.password_hash if user else None)
        if user is None or not fits or not user.is_active:
            log.info("sign_in_refused", address=address)
            if user is not None:
                # Behind the answer: what only known accounts wait for would tell which ones are known.
                self._tools.later.do(self._note_refused(deeds, "sign_in_refused", UserId(user.id)))
            raise WrongCredentials
        self._tools.throttle.succeeded(account, address)
        async with self._everywhere(deeds.by(user.id), "signed_in", UserId(user.id)):
            return await self._signed_in(user, password)

    async def _signed_in(self, user: User, password: str) -> TokenPair:
        if self._tools.passwords.is_outdated(user.password_hash):
            stronger = await self._tools.passwords.hash(password)
            await self._users.update({"_id": user.id, "password_hash": user.password_hash}, {"password_hash": stronger})
        return await self._open_session(UserId(user.id))

    async def refresh(self, token: str, deeds: Deeds) -> TokenPair:
        """The next pair of tokens of the same session. Raises TokenRefused, RefreshTokenReused."""
        claims = self._tools.signer.verify(token, "refresh")
        now = self._clock.now()
        stored = await self._refresh_tokens.find_one({"_id": claims.token_id})
        if stored is None or not hmac.compare_digest(stored.digest, sha256_hex(token.encode())):
            raise TokenRefused
        taken = await self._refresh_tokens.update({"_id": stored.id, "used_at": None}, {"used_at": now})
        if taken is None:
            log.warning("refresh_token_reused", user_id=stored.user_id)
            # Nobody's deed but a defence, so a journal that is full does not keep the session alive.
            await self.end_session(stored.session_id)
            await self._note_refused(deeds, "refresh_token_reused", UserId(stored.user_id), stored.session_id)
            raise RefreshTokenReused
        user = await self._users.find_one({"_id": stored.user_id})
        extended = await self._sessions.update(
            {"_id": stored.session_id, "revoked_at": None}, {"expires_at": now + _REFRESH_FOR}
        )
        if extended is None or user is None or not user.is_active:
            raise TokenRefused
        return await self._issue(claims.user_id, stored.session_id)

    async def end_session(self, session_id: str) -> None:
        """Every token of the session stops working at once."""
        await self._sessions.update({"_id": session_id, "revoked_at": None}, {"revoked_at": self._clock.now()})
        await self._refresh_tokens.delete_many({"session_id": session_id, "used_at": None})

    async def sign_out(self, user_id: UserId, session_id: str, refresh_token: str | None, deeds: Deeds) -> None:
        """End a session, and that of a refresh token of the same person. Raises TokenRefused."""
        async with self._everywhere(deeds, "signed_out", user_id, session=session_id):
            if refresh_token is not None:
                await self.end_session_of(refresh_token, user_id)
            await self.end_session(session_id)

    async def end_session_of(self, refresh_token: str, user_id: UserId) -> None:
        """End the session a refresh token of this person belongs to. Raises TokenRefused."""
        claims = self._tools.signer.verify(refresh_token, "refresh")
        if claims.user_id != user_id:
            raise TokenRefused
        await self.end_session(claims.session_id)

    async def change_password(self, user_id: UserId, current: str, new: str, deeds: Deeds) -> None:
        """Set another password and end all of the person's sessions.

        Raises WrongPassword, WeakPassword, TooManyAttempts.
        """
        user, address = await self._users.get(user_id), deeds.actor.address
        self._tools.throttle.check(user.email, address)
        if not await self._tools.passwords.verify(current, user.password_hash):
            self._tools.throttle.failed(user.email, address)
            await self._note_refused(deeds, "password_change_refused", user_id)
            raise WrongPassword
        check_password(new, context=_context(user.email, user.first_name, user.last_name))
        digest = await self._tools.passwords.hash(new)
        async with self._everywhere(deeds, "password_changed", user_id):
            changed = await self._users.update(
                {"_id": user.id, "password_hash": user.password_hash}, {"password_hash": digest}
            )
            if changed is None:
                raise Conflict("The password was changed by somebody else in the meantime.")
            sessions = await self._sessions.find({"user_id": user.id, "revoked_at": None})
            for session in sessions:
                await self.end_session(session.id)

    @asynccontextmanager
    async def _everywhere(self, deeds: Deeds, action: str, user_id: UserId, **said: object) -> AsyncIterator[None]:
        """Record a deed in each tenant the person belongs to, before the block. Raises SpoolUnavailable."""
        async with AsyncExitStack() as deed:
            for tenant_id in await self._tenants_of(user_id):
                doing = deeds.doing(tenant_id, "auth", action, Thing("user", user_id), **said)
                await deed.enter_async_context(doing)
            yield

    async def _note_refused(self, deeds: Deeds, action: str, user_id: UserId, session: str = "") -> None:
        """Record or count in each tenant what was refused. There is no deed that would have to wait for it."""
        with suppress(Unavailable):
            for tenant_id in await self._tenants_of(user_id):
                await self._refusals.note(deeds, tenant_id, action, user_id, session)

    async def _tenants_of(self, user_id: UserId) -> list[str]:
        found: list[str] = []
        after: str | None = None
        while page := await self._memberships.after(user_id, after, _TENANTS_AT_ONCE):
            found += [membership.tenant_id for membership in page]
            after = page[-1].id
        return found

    async def _open_session(self, user_id: UserId) -> TokenPair:
        now = self._clock.now()
        session = Session(id=new_id("ses"), user_id=user_id, expires_at=now + _REFRESH_FOR, created_at=now)
        await self._sessions.insert(session)
        return await self._issue(user_id, session.id)

    async def _issue(self, user_id: UserId, session_id: str) -> TokenPair:
        now = self._clock.now()
        token_id = new_id("rft")
        refresh = self._tools.signer.issue_refresh(user_id, session_id, token_id)
        await self._refresh_tokens.insert(
            RefreshToken(
                id=token_id,
                session_id=session_id,
                user_id=user_id,
                digest=sha256_hex(refresh.encode()),
                expires_at=now + _REFRESH_FOR,
                created_at=now,
            )
        )
        return TokenPair(self._tools.signer.issue_global(user_id, session_id), refresh)


def _context(email: str, first_name: str, last_name: str) -> tuple[str, ...]:
    return (*re.split(r"[@.+_-]", email), email, first_name, last_name)
