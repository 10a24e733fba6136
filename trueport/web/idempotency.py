"""Creating things once, however often the client asks: the `Idempotency-Key` header of creating POSTs.

The first call's answer is kept for 24 hours per caller, path and key, and given again to a repetition with the same
body. An answer that shows a secret is not kept, because secrets are not stored: its repetition is refused with a
conflict that names the object, whose secret can then be replaced by rotating it.
"""

import hmac
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal, Protocol, TypeVar, cast

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from odmantic import Field, Model
from odmantic.config import ODMConfigDict
from pymongo import IndexModel

from trueport.kit.crypto import sha256_hex
from trueport.kit.errors import Conflict, InvalidRequest, TrueportError
from trueport.kit.tenancy import PlatformScope
from trueport.storage.mongo import Duplicate
from trueport.storage.platform import PlatformRepository
from trueport.web.domain import Resources

KEPT_FOR: Final = timedelta(hours=24)
LEASE: Final = timedelta(seconds=60)
REPLAYED: Final = "x-idempotent-replay"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class Shown(Protocol):
    """What a creating call answers with."""

    id: str


V = TypeVar("V", bound=Shown)


class IdempotencyMismatch(TrueportError):
    """The key was used before, with another body."""

    code = "idempotency_mismatch"
    status = 422

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with a different request.")


class RequestInProgress(Conflict):
    """The first call with this key has not ended."""

    code = "request_in_progress"

    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key is still being worked on.")


class OutcomeUnknown(Conflict):
    """The first call with this key broke off; whether it had an effect is not known."""

    code = "unknown_outcome"

    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key broke off: look whether it took effect.")


class SecretShownOnce(Conflict):
    """The first call succeeded and showed a secret, which is not kept."""

    code = "secret_shown_once"

    def __init__(self, item_id: str) -> None:
        super().__init__(
            "This was created by the first request with this Idempotency-Key. Its secret was shown then and is not "
            "kept: rotate it to get a new one.",
            id=item_id,
        )


class IdempotencyRecord(Model):
    """One key of one caller. `answer` is empty while the call runs and where the answer held a secret."""

    id: str = Field(primary_field=True)
    body_digest: str
    state: Literal["running", "done"]
    item_id: str = ""
    answer: str = ""
    lease_until: datetime
    expires_at: datetime
    created_at: datetime
    revision: int = 0

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "idempotency",
        "indexes": lambda: [IndexModel([("expires_at", 1)], expireAfterSeconds=0)],
    }


class _Records(PlatformRepository[IdempotencyRecord]):
    model = IdempotencyRecord


class Idempotency:
    """Runs creating calls at most once per key."""

    def __init__(self, resources: Resources) -> None:
        self._records = _Records(resources.database, PlatformScope("web", "idempotency keys"))
        self._clock = resources.clock
        self._digest_key = resources.settings.keys.purpose_key("idempotency")

    async def once(
        self,
        request: Request[Any, Any, Any],
        owner: str,
        create: Callable[[], Awaitable[V]],
        *,
        shows_secret: bool = False,
    ) -> Response[V]:
        """201 with what `create` makes, or with what it made for the first call with this key.

        owner: whose keys these are, such as a tenant's and a user's id; another owner's keys mean nothing here.
        Raises IdempotencyMismatch, RequestInProgress, OutcomeUnknown and SecretShownOnce.
        """
        key = request.headers.get("idempotency-key")
        if key is None:
            return Response(await create(), status_code=201)
        if not _KEY.fullmatch(key):
            raise InvalidRequest("An Idempotency-Key has 1 to 255 visible ASCII characters.")
        record_id = sha256_hex("\n".join((owner, request.method, request.scope["path"], key)).encode())
        body_digest = hmac.digest(self._digest_key, await request.body(), "sha256").hex()
        earlier = await self._claim(record_id, body_digest)
        if earlier is not None:
            return cast("Response[V]", self._repeat(earlier, body_digest))
        try:
            made = await create()
        except TrueportError as error:
            if error.status < 500:
                await self._records.delete_many({"_id": record_id})
            raise
        answer = "" if shows_secret else msgspec.json.encode(made).decode()
        await self._records.update({"_id": record_id}, {"state": "done", "item_id": made.id, "answer": answer})
        return Response(made, status_code=201)

    async def _claim(self, record_id: str, body_digest: str) -> IdempotencyRecord | None:
        """None when this call is the first, else what the first left."""
        now = self._clock.now()
        # The database removes expired records in its own time, which may be later.
        await self._records.delete_many({"_id": record_id, "expires_at": {"$lte": now}})
        record = IdempotencyRecord(
            id=record_id,
            body_digest=body_digest,
            state="running",
            lease_until=now + LEASE,
            expires_at=now + KEPT_FOR,
            created_at=now,
        )
        try:
            await self._records.insert(record)
        except Duplicate:
            return await self._records.get(record_id)
        return None

    def _repeat(self, record: IdempotencyRecord, body_digest: str) -> Response[bytes]:
        if not hmac.compare_digest(record.body_digest, body_digest):
            raise IdempotencyMismatch
        if record.state == "running":
            raise RequestInProgress if record.lease_until > self._clock.now() else OutcomeUnknown
        if not record.answer:
            raise SecretShownOnce(record.item_id)
        return Response(record.answer.encode(), status_code=201, media_type=MediaType.JSON, headers={REPLAYED: "true"})
