"""Signed tokens: HS256, one algorithm, our own table of keys, and every claim checked for presence and type.

A token says who and for what; whether that still holds is checked against the database by the caller. Nothing in a
token's header is acted on but `kid`, which is looked up in a table in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import jwt

from trueport.kit.clock import Clock
from trueport.kit.crypto import derive, sha256_hex
from trueport.kit.errors import Unauthenticated
from trueport.kit.ids import TenantId, UserId, is_id, new_id
from trueport.kit.principal import ROLES, Role
from trueport.kit.secret import Secret
from trueport.kit.tenancy import ENVIRONMENTS, Environment

TokenUse = Literal["global", "scoped", "refresh"]

ISSUER: Final = "trueport"
LIFETIME_S: Final[dict[TokenUse, int]] = {"global": 1_800, "scoped": 1_800, "refresh": 14 * 86_400}
LEEWAY_S: Final = 30
_ALGORITHM: Final = "HS256"
_HEADER: Final = frozenset({"alg", "kid", "typ"})
_TIMES: Final = ("iat", "nbf", "exp")


class TokenRefused(Unauthenticated):
    """The token is malformed, foreign, for another use, or no longer valid; which one is not told."""

    code = "invalid_token"

    def __init__(self) -> None:
        super().__init__("The token is not valid, or no longer.")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `tenant_id`, `environment` and the role at issue are set for scoped tokens only."""

    token_id: str
    user_id: UserId
    session_id: str
    tenant_id: TenantId | None = None
    environment: Environment | None = None


class TokenSigner:
    """Issues and verifies tokens with a table of keys, of which the first signs."""

    def __init__(self, secrets: Sequence[Secret], clock: Clock) -> None:
        keys = [derive(secret.reveal().encode(), "trueport/token-signing/v1") for secret in secrets]
        self._keys = {sha256_hex(key)[:16]: key for key in keys}
        self._kid = next(iter(self._keys))
        self._clock = clock

    def issue_global(self, user_id: UserId, session_id: str) -> str:
        return self._issue("global", user_id, session_id, new_id("tok"), {})

    def issue_scoped(
        self, user_id: UserId, session_id: str, tenant_id: TenantId, role: Role, environment: Environment
    ) -> str:
        """`role` is there for clients to show; nothing here decides by it."""
        extra = {"tid": tenant_id, "role": role, "env": environment}
        return self._issue("scoped", user_id, session_id, new_id("tok"), extra)

    def issue_refresh(self, user_id: UserId, session_id: str, token_id: str) -> str:
        return self._issue("refresh", user_id, session_id, token_id, {})

    def verify(self, token: str, use: TokenUse) -> Claims:
        """What the token says, if it is one of ours for this use and its time is now. Raises TokenRefused."""
        payload = self._payload(token, use)
        now = self._clock.epoch_us() / 1e6
        issued, begins, ends = (payload[name] for name in _TIMES)
        if ends + LEEWAY_S <= now or begins - LEEWAY_S > now or issued - LEEWAY_S > now:
            raise TokenRefused
        if ends - issued > LIFETIME_S[use]:
            raise TokenRefused
        claims = Claims(token_id=payload["jti"], user_id=UserId(payload["sub"]), session_id=payload["sid"])
        if use != "scoped":
            return claims
        if not is_id(payload["tid"], "ten") or payload["env"] not in ENVIRONMENTS or payload["role"] not in ROLES:
            raise TokenRefused
        return Claims(
            token_id=claims.token_id,
            user_id=claims.user_id,
            session_id=claims.session_id,
            tenant_id=TenantId(payload["tid"]),
            environment=cast(Environment, payload["env"]),
        )

    def _issue(self, use: TokenUse, user_id: UserId, session_id: str, token_id: str, extra: Mapping[str, str]) -> str:
        now = self._clock.epoch_us() // 1_000_000
        payload = {
            "iss": ISSUER,
            "aud": _audience(use),
            "sub": user_id,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_S[use],
            "jti": token_id,
            "typ": use,
            "sid": session_id,
            **extra,
        }
        return jwt.encode(payload, self._keys[self._kid], algorithm=_ALGORITHM, headers={"kid": self._kid})

    def _payload(self, token: str, use: TokenUse) -> dict[str, Any]:  # claims are checked one by one below
        try:
            header = jwt.get_unverified_header(token)
            if not header.keys() <= _HEADER or header.get("alg") != _ALGORITHM or header.get("typ", "JWT") != "JWT":
                raise TokenRefused
            kid = header.get("kid")
            key = self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise TokenRefused
            payload: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=_audience(use),
                issuer=ISSUER,
                options={
                    "require": ["iss", "aud", "sub", "jti", *_TIMES],
                    "strict_aud": True,
                    # Times are compared above, with the clock this object was given and with types checked.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRefused from error
        texts = ("sub", "jti", "sid", *(("tid", "env", "role") if use == "scoped" else ()))
        if (
            payload.get("typ") != use
            or any(type(payload[name]) is not int for name in _TIMES)
            or any(not isinstance(payload.get(name), str) for name in texts)
            or not is_id(payload["sub"], "usr")
            or not is_id(payload["sid"], "ses")
        ):
            raise TokenRefused
        return payload


def _audience(use: TokenUse) -> str:
    return f"trueport:{use}"
