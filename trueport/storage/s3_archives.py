"""Archives in S3, and in what speaks its protocol, with each object locked until its retention ends.

obstore cannot say with an object until when it is to be locked, nor read it. So requests that are about locks are
signed here (AWS Signature Version 4); the others are obstore's.
"""

import asyncio
import base64
import hashlib
import hmac
import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from obstore.store import S3Store
from yarl import URL

from trueport.kit.clock import Clock, rfc3339
from trueport.kit.errors import NotFound
from trueport.storage.archives import ArchiveUnavailable, Immutability, ObjectHead
from trueport.storage.documents import UnknownStorage
from trueport.storage.object_archives import RETRY, ObjectArchive

if TYPE_CHECKING:
    # obstore has these for checkers only.
    from obstore.store import ClientConfig, S3Config

_TIMEOUT_S: Final = 60.0
_MOST_BYTES: Final = 64 << 10
_ENABLED: Final = re.compile(rb"<ObjectLockEnabled>\s*Enabled\s*</ObjectLockEnabled>")
_LOCKLESS: Final = re.compile(rb"missing Object ?Lock")
_NOTHING: Final = hashlib.sha256(b"").hexdigest()
_REGION: Final = "us-east-1"


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


class S3Archive(ObjectArchive):
    """An archive in S3, or in what speaks its protocol, each object locked in COMPLIANCE mode."""

    def __init__(self, access: S3Access, bucket: str, prefix: str, clock: Clock) -> None:
        super().__init__(_s3_store(access, bucket, prefix))
        self._access = access
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._clock = clock

    @classmethod
    def of(cls, url: str, clock: Clock, environ: Mapping[str, str]) -> "S3Archive":  # type: ignore[override]  # more is needed to sign
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
        if answer.status in (200, 404):
            return Immutability(worm=False, why="the bucket was made without Object Lock")
        raise ArchiveUnavailable(str(answer.status))

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        digest = await asyncio.to_thread(hashlib.sha256, data)
        headers = {
            "if-none-match": "*",
            "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode(),
            "x-amz-sdk-checksum-algorithm": "SHA256",
            "x-amz-object-lock-mode": "COMPLIANCE",
            "x-amz-object-lock-retain-until-date": rfc3339(locked_until),
        }
        answer = await self._ask("PUT", self._path(name), data=data, digest=digest.hexdigest(), headers=headers)
        if answer.status == 400 and _LOCKLESS.search(answer.body):
            # A bucket without locks refuses the headers. Whether that will do is the archiver's question.
            await super().put_if_absent(name, data, locked_until)
        elif answer.status not in (200, 412):
            raise ArchiveUnavailable(str(answer.status))

    async def head(self, name: str) -> ObjectHead:
        answer = await self._ask("HEAD", self._path(name))
        if answer.status == 404:
            raise NotFound("There is no such object.")
        if answer.status != 200:
            raise ArchiveUnavailable(str(answer.status))
        until = answer.headers.get("x-amz-object-lock-retain-until-date", "")
        # GOVERNANCE can be lifted by whoever has the permission: that is no lock for this purpose.
        is_locked = answer.headers.get("x-amz-object-lock-mode") == "COMPLIANCE" and until != ""
        return ObjectHead(int(answer.headers.get("content-length", 0)), _moment(until) if is_locked else None)

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
    ) -> "Answer":
        """Raises ArchiveUnavailable when there is none."""
        url = URL(f"{self._access.endpoint}{path}{'?' if query else ''}{query}", encoded=True)
        signed = sign_s3(self._access, verb, url, digest, headers or {}, self._clock.now())
        return await asyncio.to_thread(_exchange, verb, url, data, signed)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers with their names in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def _exchange(verb: str, url: URL, data: bytes, headers: Mapping[str, str]) -> Answer:
    """One request and its answer; redirects are not followed. Raises ArchiveUnavailable."""
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.host or "", url.port, timeout=_TIMEOUT_S)
    try:
        connection.request(verb, url.raw_path_qs, data or None, dict(headers))
        reply = connection.getresponse()
        body = reply.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise ArchiveUnavailable(type(error).__name__) from error
    finally:
        connection.close()
    return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, body)


def sign_s3(
    access: S3Access, verb: str, url: URL, digest: str, headers: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """The headers of a request to S3, signed with AWS Signature Version 4.

    `url` is encoded as it is sent, `digest` the SHA-256 (hex) of the body.
    """
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    given = {**headers, "host": url.host_port_subcomponent or "", "x-amz-date": moment, "x-amz-content-sha256": digest}
    if access.token:
        given["x-amz-security-token"] = access.token
    names = ";".join(sorted(given))
    lines = "".join(f"{name}:{given[name]}\n" for name in sorted(given))
    request = "\n".join((verb, url.raw_path, url.raw_query_string, lines, names, digest))
    place = f"{moment[:8]}/{access.region}/s3/aws4_request"
    said = "\n".join(("AWS4-HMAC-SHA256", moment, place, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{access.secret}".encode()
    for part in place.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, said.encode(), "sha256").hex()
    given["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access.key_id}/{place}, SignedHeaders={names}, Signature={signature}"
    )
    return given


def _s3_store(access: S3Access, bucket: str, prefix: str) -> S3Store:
    config: S3Config = {
        "endpoint": access.endpoint,
        "region": access.region,
        "access_key_id": access.key_id,
        "secret_access_key": access.secret,
    }
    if access.token:
        config["session_token"] = access.token
    options: ClientConfig = {"allow_http": access.endpoint.startswith("http://")}
    return S3Store(bucket, prefix=prefix or None, config=config, client_options=options, retry_config=RETRY)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
