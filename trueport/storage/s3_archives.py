"""Archives in S3, and in what speaks its protocol, with each object locked until its retention ends.

obstore cannot say with an object until when it is to be locked, nor read it, and follows redirects to wherever a
server points. So requests are made and signed here (AWS Signature Version 4): to the addresses that whoever opens the
archive permits, and to no other.
"""

import asyncio
import base64
import hashlib
import html
import http.client
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final
from urllib.parse import quote, urlsplit

from yarl import URL

from trueport.kit.clock import Clock, rfc3339
from trueport.kit.errors import NotFound
from trueport.storage.archives import ArchiveUnavailable, Immutability, ObjectHead
from trueport.storage.aws_signature import Signatory, signed
from trueport.storage.documents import UnknownStorage

Permits = Callable[[str], bool]
"""Whether a connection may go to an address, given as text."""

_CONNECT_S: Final = 10.0
_TIMEOUT_S: Final = 60.0
_WHOLE_S: Final = 600.0
_MOST_BYTES: Final = 4 << 20
# A segment is far smaller: this is against a store that never ends.
_LARGEST_OBJECT: Final = 1 << 30
_MOST_NAMES: Final = 1_000_000
_READ_BYTES: Final = 1 << 18
_ENABLED: Final = re.compile(rb"<ObjectLockEnabled>\s*Enabled\s*</ObjectLockEnabled>")
_LOCKLESS: Final = re.compile(rb"missing Object ?Lock")
_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_KEY: Final = re.compile(r"<Key>([^<]*)</Key>")
_NEXT: Final = re.compile(r"<NextContinuationToken>([^<]+)</NextContinuationToken>")
_LOCATION: Final = re.compile(rb"<LocationConstraint[^>]*>([A-Za-z0-9-]{1,64})</LocationConstraint>")
_NOTHING: Final = hashlib.sha256(b"").hexdigest()
_REGION: Final = "us-east-1"
_XML: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where a bucket is and who asks. `endpoint` has no path; the bucket is always the first part of it."""

    endpoint: str
    region: str
    key_id: str
    secret: str
    token: str | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "S3Access":
        """From the names that all of Amazon's tools read."""
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or _REGION
        own = (environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
        endpoint = next(filter(None, own), f"https://s3.{region}.amazonaws.com").rstrip("/")
        return cls(
            endpoint,
            region,
            environ.get("AWS_ACCESS_KEY_ID", ""),
            environ.get("AWS_SECRET_ACCESS_KEY", ""),
            environ.get("AWS_SESSION_TOKEN") or None,
        )

    def __repr__(self) -> str:
        return f"S3Access({self.endpoint!r})"


class S3Archive:
    """An archive in S3, or in what speaks its protocol, each object locked in COMPLIANCE mode."""

    def __init__(
        self,
        access: S3Access,
        bucket: str,
        prefix: str,
        clock: Clock,
        *,
        permits: Permits | None = None,
        patience_s: float = _TIMEOUT_S,
    ) -> None:
        """permits: addresses that may be connected to; None: all. patience_s: how long nothing may come."""
        self._access = access
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._clock = clock
        self._permits = permits
        self._patience_s = patience_s

    @classmethod
    def of(cls, url: str, clock: Clock, environ: Mapping[str, str]) -> "S3Archive":
        """`s3://bucket/prefix`. Raises UnknownStorage without credentials in the environment."""
        access, parts = S3Access.of(environ), urlsplit(url)
        if not access.key_id or not access.secret:
            raise UnknownStorage("The archive needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.")
        return cls(access, parts.netloc, parts.path.strip("/"), clock)

    async def immutability(self) -> Immutability:
        answer = await self._ask("GET", f"/{self._bucket}", query="object-lock=")
        if answer.status == 200 and _ENABLED.search(answer.body):
            return Immutability(
                worm=True, why="Object Lock is on: each object is locked (COMPLIANCE) when it is written"
            )
        if answer.status in (200, 404) and answer.code != "NoSuchBucket":
            return Immutability(worm=False, why="the bucket was made without Object Lock")
        raise ArchiveUnavailable(answer.reason)

    async def location(self) -> str:
        answer = await self._ask("GET", f"/{self._bucket}", query="location=")
        if answer.status != 200:
            raise ArchiveUnavailable(answer.reason)
        said = _LOCATION.search(answer.body)
        # The oldest region has no name in this answer.
        return said.group(1).decode() if said else _REGION

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        digest = await asyncio.to_thread(hashlib.sha256, data)
        plain = {
            "if-none-match": "*",
            "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode(),
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        lock = {
            "x-amz-object-lock-mode": "COMPLIANCE",
            "x-amz-object-lock-retain-until-date": rfc3339(locked_until),
        }
        answer = await self._ask("PUT", self._path(name), data=data, digest=digest.hexdigest(), headers=plain | lock)
        if answer.status == 400 and _LOCKLESS.search(answer.body):
            # A bucket without locks refuses the headers. Whether that will do is the archiver's question.
            answer = await self._ask("PUT", self._path(name), data=data, digest=digest.hexdigest(), headers=plain)
        if answer.status not in (200, 412):
            raise ArchiveUnavailable(answer.reason)

    async def get(self, name: str) -> bytes:
        answer = await self._ask("GET", self._path(name), most_bytes=_LARGEST_OBJECT)
        if answer.status == 404 and answer.code != "NoSuchBucket":
            raise NotFound("There is no such object.")
        if answer.status != 200:
            raise ArchiveUnavailable(answer.reason)
        return answer.body

    async def head(self, name: str) -> ObjectHead:
        answer = await self._ask("HEAD", self._path(name))
        if answer.status == 404:
            raise NotFound("There is no such object.")
        if answer.status != 200:
            raise ArchiveUnavailable(answer.reason)
        until = answer.headers.get("x-amz-object-lock-retain-until-date", "")
        # GOVERNANCE can be lifted by whoever has the permission: that is no lock for this purpose.
        is_locked = answer.headers.get("x-amz-object-lock-mode") == "COMPLIANCE" and until != ""
        return ObjectHead(
            int(answer.headers.get("content-length", 0)),
            _moment(until) if is_locked else None,
            is_held=answer.headers.get("x-amz-object-lock-legal-hold") == "ON",
        )

    async def list(self, prefix: str) -> list[str]:
        found: list[str] = []
        wanted, token = f"{self._prefix}{prefix.rstrip('/')}/", ""
        while len(found) < _MOST_NAMES:
            asked = {"list-type": "2", "prefix": wanted, **({"continuation-token": token} if token else {})}
            query = "&".join(f"{name}={quote(asked[name], safe='-_.~')}" for name in sorted(asked))
            answer = await self._ask("GET", f"/{self._bucket}", query=query)
            if answer.status != 200:
                raise ArchiveUnavailable(answer.reason)
            text = answer.body.decode("utf-8", "replace")
            names = [html.unescape(key) for key in _KEY.findall(text)]
            found += [name.removeprefix(self._prefix) for name in names if name.startswith(wanted)]
            following = _NEXT.search(text)
            if following is None or not names:
                return sorted(found)
            token = html.unescape(following.group(1))
        raise ArchiveUnavailable("too_many_names")

    async def hold(self, name: str, *, is_held: bool) -> bool:
        said = f'<LegalHold xmlns="{_XML}"><Status>{"ON" if is_held else "OFF"}</Status></LegalHold>'.encode()
        digest = hashlib.sha256(said)
        headers = {
            # The protocol wants MD5 or another checksum here; stores that are not Amazon's know only the first.
            "content-md5": base64.b64encode(hashlib.md5(said, usedforsecurity=False).digest()).decode(),
            "content-type": "application/xml",
        }
        answer = await self._ask(
            "PUT", self._path(name), query="legal-hold=", data=said, digest=digest.hexdigest(), headers=headers
        )
        if answer.status == 404 and answer.code != "NoSuchBucket":
            raise NotFound("There is no such object.")
        if answer.status == 400 and _LOCKLESS.search(answer.body):
            return False
        if answer.status != 200:
            raise ArchiveUnavailable(answer.reason)
        return True

    async def remove(self, name: str) -> None:
        answer = await self._ask("DELETE", self._path(name))
        if answer.status not in (200, 204, 404):
            raise ArchiveUnavailable(answer.reason)

    def _path(self, name: str) -> str:
        return f"/{self._bucket}/{quote(self._prefix + name, safe='/-_.~')}"

    async def _ask(
        self,
        verb: str,
        path: str,
        *,
        query: str = "",
        data: bytes = b"",
        digest: str = _NOTHING,
        headers: Mapping[str, str] | None = None,
        most_bytes: int = _MOST_BYTES,
    ) -> "Answer":
        """Raises ArchiveUnavailable when there is none."""
        url = URL(f"{self._access.endpoint}{path}{'?' if query else ''}{query}", encoded=True)
        given = sign_s3(self._access, verb, url, digest, headers or {}, self._clock.now())
        return await asyncio.to_thread(self._exchange, verb, url, data, given, most_bytes)

    def _exchange(self, verb: str, url: URL, data: bytes, headers: Mapping[str, str], most_bytes: int) -> "Answer":
        """One request and its answer; redirects are not followed. Raises ArchiveUnavailable."""
        host, port = url.host or "", url.port or 443
        connection = http.client.HTTPConnection(host, port, timeout=self._patience_s)
        ends_s = self._clock.monotonic() + _WHOLE_S
        try:
            connection.sock = self._connected(host, port, is_tls=url.scheme == "https")
            connection.request(verb, url.raw_path_qs, data or None, dict(headers))
            reply = connection.getresponse()
            parts: list[bytes] = []
            while part := reply.read1(_READ_BYTES):
                parts.append(part)
                most_bytes -= len(part)
                if most_bytes < 0 or self._clock.monotonic() > ends_s:
                    raise ArchiveUnavailable("too_large" if most_bytes < 0 else "too_slow")
        except (OSError, http.client.HTTPException) as error:
            raise ArchiveUnavailable(type(error).__name__) from error
        finally:
            connection.close()
        if reply.length:
            raise ArchiveUnavailable("cut_short")
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, b"".join(parts))

    def _connected(self, host: str, port: int, *, is_tls: bool) -> socket.socket:
        """A connection to one of the host's addresses that are permitted, looked at in the moment of connecting."""
        reason: Exception = ArchiveUnavailable("address_refused")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if self._permits is not None and not self._permits(str(address[0])):
                continue
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(min(_CONNECT_S, self._patience_s))
                made.connect(address)
                made.settimeout(self._patience_s)
                return _tls().wrap_socket(made, server_hostname=host) if is_tls else made
            except OSError as error:
                made.close()
                reason = error
        raise reason


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers with their names in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """What S3 calls the error; empty where it does not say."""
        found = _CODE.search(self.body) if self.status >= 300 else None
        return found.group(1).decode() if found else ""

    @property
    def reason(self) -> str:
        return f"{self.status} {self.code}".strip()


def sign_s3(
    access: S3Access, verb: str, url: URL, digest: str, headers: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """The headers of a request, signed; S3 wants the body's digest among them. As for `signed` otherwise."""
    signatory = Signatory("s3", access.region, access.key_id, access.secret, access.token)
    return signed(signatory, verb, url, digest, {**headers, "x-amz-content-sha256": digest}, now)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
