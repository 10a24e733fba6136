"""What a call needs of a journal, whether it is a folder on the local disk or the database itself."""

from collections.abc import Awaitable, Sequence
from typing import Literal, Protocol

import msgspec

from trueport.audit.records import Kind
from trueport.kit.errors import Unavailable

Mode = Literal["strict", "strict_power", "best_effort"]


class SpoolUnavailable(Unavailable):
    """Records cannot be written, so nothing may happen that would need one."""

    code = "audit_unavailable"

    def __init__(self, retry_after_s: int = 1) -> None:
        super().__init__("The audit journal cannot take records at the moment.")
        self.retry_after_s = retry_after_s


class SpoolSheds(SpoolUnavailable):
    """There is room left, but not for calls that can wait."""

    def __init__(self) -> None:
        super().__init__(retry_after_s=5)


class Appended(msgspec.Struct, frozen=True):
    """Where a record stands. `position` grows with every record and is what `durable` takes."""

    record_id: str
    leaf: bytes
    position: int


class SpoolReservation:
    """Room kept for a record that will certainly be owed."""

    __slots__ = ("size_bytes",)

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes


class Journal(Protocol):
    """Takes records. `mode` says what a call waits for, and what happens when they cannot be taken."""

    @property
    def mode(self) -> Mode: ...

    @property
    def is_healthy(self) -> bool:
        """Whether records can be written, as far as is known."""

    def reserve(self, size_bytes: int, *, can_wait: bool = False) -> SpoolReservation:
        """Keep room for an outcome. Raises SpoolUnavailable when no further call may start."""

    def release(self, reservation: SpoolReservation) -> None:
        """Give room back. A second time does nothing."""

    def append(
        self, kind: Kind, rid: str, tenant: str, fields: dict[str, object], blobs: Sequence[bytes] = ()
    ) -> Appended:
        """Write one record. Synchronous; raises SpoolUnavailable when it could not be written."""

    def durable(self, position: int) -> Awaitable[None]:
        """Done when everything up to `position` would survive a power loss; fails with SpoolUnavailable."""

    def sync_ahead(self) -> None:
        """Begin to make durable what has been written, for somebody who will wait for it later."""

    async def settled(self) -> None:
        """Done when what was appended is as safe as it has to be before an answer ends. Raises SpoolUnavailable."""
