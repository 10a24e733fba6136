"""The root of every refusal. Edges render it: problem details for management, the caller's own dialect elsewhere."""

from typing import ClassVar


class TrueportError(Exception):
    """Something the caller can be told.

    `code` is stable and machine-readable, `status` the HTTP status, the message one plain sentence.
    `fields` are shown to the caller as they are: no secret, no prompt, no other tenant's name goes in.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retry_after_s: int | None = None
    should_retry: bool | None = None

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class InvalidRequest(TrueportError):
    """The request cannot be understood or breaks a stated bound."""

    code = "invalid_request"
    status = 400


class Unauthenticated(TrueportError):
    """No credential, or one that does not hold."""

    code = "unauthenticated"
    status = 401


class Forbidden(TrueportError):
    """Known, but not allowed."""

    code = "forbidden"
    status = 403


class NotFound(TrueportError):
    """It does not exist, or not for this tenant; the two are not told apart."""

    code = "not_found"
    status = 404


class Conflict(TrueportError):
    """The present state does not allow it."""

    code = "conflict"
    status = 409


class Unavailable(TrueportError):
    """Something this call needs is away; trying again later may help."""

    code = "unavailable"
    status = 503
    retry_after_s = 1
