"""Access tokens for accounts that have no lasting key: fetched when needed, kept while they hold.

A token is asked for by one task, however many calls wait for it, and renewed before it ends while calls go on with
the old one. So a call waits for a token endpoint only the first time, and after its token was refused.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlencode

import msgspec
from yarl import URL

from trueport.gateway.egress import EgressPolicy, EgressRefused, PoolKey, UpstreamFailure, parse_upstream_url
from trueport.gateway.providers.credential import CredentialRefused
from trueport.gateway.snapshot import Credential
from trueport.gateway.upstream import Timeouts, Upstream, UpstreamRequest
from trueport.kit.clock import Clock
from trueport.kit.crypto import sha256_hex
from trueport.kit.ids import CredentialId, TenantId
from trueport.kit.logging import get_logger
from trueport.kit.secret import Secret

log = get_logger(__name__)

_TIMEOUTS: Final = Timeouts(connect_s=5.0, headers_s=10.0, event_s=10.0, total_s=10.0)
_MOST_BYTES: Final = 65_536
_MOST_KEPT: Final = 4_096
_EARLY_S: Final = 300.0
# A token has to hold until the request that carries it arrives.
_MARGIN_S: Final = 30.0
_REST_S: Final = 5.0
_FORGET_EVERY_S: Final = 30.0
_LONGEST_LIFE_S: Final = 86_400.0
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")
# A credential belongs to one tenant, so its id alone keeps connections apart; no call shares these.
_POOL: Final = TenantId("ten_tokens")


class TokenUnavailable(UpstreamFailure):
    """The token endpoint could not be reached or gave no usable answer.

    Not held against the target, which was never asked: an account may name a token endpoint of its own, and its
    faults must not close the provider to others.
    """

    code = "upstream_token"
    status = 502
    counts_as_failure = False

    def __init__(self, message: str = "No access token for the provider could be obtained.") -> None:
        super().__init__(message, request_sent=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What is asked for a token, and with which proof. `form` may be slow; it is called in a thread."""

    endpoint: URL
    form: Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class _Token:
    text: Secret
    renew_at_s: float
    ends_at_s: float


@dataclass(slots=True)
class _Entry:
    """What is known for one credential and secret; `task` fetches at the moment."""

    token: _Token | None = None
    task: "asyncio.Task[_Token] | None" = None
    failure: UpstreamFailure | None = None
    rests_until_s: float = 0.0


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: int | float | str = 3_600
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme


_answer: Final = msgspec.json.Decoder(_TokenAnswer)


class TokenSource:
    """Tokens by credential and a digest of its secret: with another secret, nothing of the old one is used."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._entries: OrderedDict[tuple[CredentialId, str], _Entry] = OrderedDict()
        self._forgotten_at_s: OrderedDict[CredentialId, float] = OrderedDict()

    async def token(self, credential: Credential, grant: Callable[[Credential], Grant]) -> Secret:
        """A token for the account; `grant` is called only when one has to be fetched.

        Raises CredentialRefused when the proof is not accepted, TokenUnavailable when the endpoint does not serve,
        and EgressRefused when it is not one to connect to; the same for some seconds without asking again.
        """
        entry = self._entry(credential)
        now_s = self._clock.monotonic()
        token = entry.token
        if token is not None and now_s < token.ends_at_s:
            if now_s >= token.renew_at_s and now_s >= entry.rests_until_s:
                self._fetching(entry, credential, grant)
            return token.text
        if entry.failure is not None and now_s < entry.rests_until_s:
            # A fresh one: each raising adds its frames to the exception it raises.
            raise type(entry.failure)(entry.failure.message)
        # Shielded: the task works for everybody who waits, and a caller that leaves must not end it.
        return (await asyncio.shield(self._fetching(entry, credential, grant))).text

    def refused(self, credential: Credential) -> None:
        """Forget the account's tokens.

        At most once in a while: every call that carried the old token says so, the last ones after a new one has
        been fetched, and an account without the right to a model is refused with any token.
        """
        now_s = self._clock.monotonic()
        last_s = self._forgotten_at_s.get(credential.id)
        if last_s is not None and now_s - last_s < _FORGET_EVERY_S:
            return
        for key in [key for key in self._entries if key[0] == credential.id]:
            del self._entries[key]
        self._forgotten_at_s[credential.id] = now_s
        self._forgotten_at_s.move_to_end(credential.id)
        while len(self._forgotten_at_s) > _MOST_KEPT:
            self._forgotten_at_s.popitem(last=False)

    def _entry(self, credential: Credential) -> _Entry:
        secret = credential.secret.reveal() if credential.secret is not None else ""
        key = (credential.id, sha256_hex(secret.encode()))
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            while len(self._entries) > _MOST_KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return entry

    def _fetching(
        self, entry: _Entry, credential: Credential, grant: Callable[[Credential], Grant]
    ) -> "asyncio.Task[_Token]":
        """The task that fetches a token for `entry`, started if there is none."""
        if entry.task is None:
            entry.task = asyncio.get_running_loop().create_task(self._fetch(credential, grant))
            entry.task.add_done_callback(partial(self._keep, entry))
        return entry.task

    def _keep(self, entry: _Entry, task: "asyncio.Task[_Token]") -> None:
        entry.task = None
        if task.cancelled():
            return
        failure = task.exception()
        if failure is None:
            entry.token, entry.failure = task.result(), None
            return
        entry.rests_until_s = self._clock.monotonic() + _REST_S
        entry.failure = failure if isinstance(failure, UpstreamFailure) else TokenUnavailable()

    async def _fetch(self, credential: Credential, grant: Callable[[Credential], Grant]) -> _Token:
        asked_at_s = self._clock.monotonic()
        try:
            asked = grant(credential)
            answer = await self._ask(credential, asked.endpoint, await asyncio.to_thread(asked.form))
            token = _read(answer, asked_at_s)
        except UpstreamFailure as error:
            log.warning("token_not_obtained", provider=credential.provider, code=error.code)
            raise
        log.info("token_obtained", provider=credential.provider)
        return token

    async def _ask(self, credential: Credential, endpoint: URL, form: Mapping[str, str]) -> bytes:
        request = UpstreamRequest(
            method="POST",
            url=endpoint,
            headers=(("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")),
            body=urlencode(form).encode(),
            pool=PoolKey(_POOL, credential.id),
            timeouts=_TIMEOUTS,
        )
        try:
            answer = await self._upstream.send(request)
            if answer.status in (400, 401, 403):
                # Its text stays here: it may quote what was sent.
                answer.close()
                raise CredentialRefused
            if answer.status != 200:
                answer.close()
                raise TokenUnavailable
            return await answer.read(_MOST_BYTES)
        except (CredentialRefused, TokenUnavailable, EgressRefused):
            raise
        except UpstreamFailure as error:
            raise TokenUnavailable from error


def _read(body: bytes, asked_at_s: float) -> _Token:
    """The token in a token endpoint's answer (RFC 6749, section 5.1). Raises TokenUnavailable."""
    try:
        answer = _answer.decode(body)
        life_s = min(float(answer.expires_in), _LONGEST_LIFE_S)
    except (msgspec.DecodeError, UnicodeError, ValueError):
        # Without the cause: a decoder's message quotes what it could not read.
        raise TokenUnavailable from None
    if not life_s > 0 or answer.token_type.lower() != "bearer" or _TOKEN.fullmatch(answer.access_token) is None:
        raise TokenUnavailable
    return _Token(
        text=Secret(answer.access_token),
        renew_at_s=asked_at_s + life_s - min(_EARLY_S, life_s / 2),
        ends_at_s=asked_at_s + life_s - min(_MARGIN_S, life_s / 10),
    )


def token_endpoint(text: str, policy: EgressPolicy, vendor_hosts: tuple[str, ...]) -> URL:
    """The URL of a token endpoint that a credential names.

    Proofs go to the vendor (a host in `vendor_hosts`, or below one that begins with a dot, on https and its usual
    port) or to a host that the operator has listed by name or address; being public is not enough. Raises
    CredentialRefused.
    """
    try:
        url = parse_upstream_url(text, policy)
    except UpstreamFailure as error:
        raise CredentialRefused("The credential names a token endpoint this gateway does not connect to.") from error
    host = url.host or ""
    is_vendors = any(host.endswith(name) if name[0] == "." else host == name for name in vendor_hosts)
    if not (is_vendors and url.scheme == "https" and url.port == 443) and not _is_listed(host, policy):
        raise CredentialRefused("The credential names a token endpoint that is not its provider's.")
    return url


def _is_listed(host: str, policy: EgressPolicy) -> bool:
    """Whether the operator wrote down this very name, or a range that this literal address is in."""
    if host in policy.names:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in policy.networks)
