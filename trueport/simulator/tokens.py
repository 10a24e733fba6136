"""The places where gateways get short-lived tokens for Google and Azure, and the tokens that have been taken back.

They are no calls to a provider: no ledger has them, and no directive reaches them. What they do is set under
`/_simulator/tokens`.
"""

import re
from base64 import urlsafe_b64decode
from typing import Final
from urllib.parse import parse_qs

import msgspec

from trueport.simulator.dialect import EXPIRED_TOKEN
from trueport.simulator.http import Request
from trueport.simulator.reply import Reply

_GOOGLE_PATH: Final = "/token"
_ENTRA_PATH: Final = re.compile(r"/[^/]+/oauth2/v2\.0/token")
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_S: Final = 3_599


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """What the next requests for tokens get: `status` other than 200 refuses them, the first `times` of them or (0)
    all; `expires_in` is the lifetime told, in seconds."""

    status: int = 200
    times: int = 0
    expires_in: int = _LIFETIME_S


class Tokens:
    """Issues tokens, counts them, and knows which were taken back."""

    def __init__(self) -> None:
        self.google = 0
        self.entra = 0
        self.refused = 0
        self.plan = Plan()
        self._number = 0
        self._revoked_up_to = 0

    def clear(self) -> None:
        """Begin counting anew. Tokens that were issued stay good: their holders do not know about it."""
        self.google = self.entra = self.refused = 0
        self.plan = Plan()

    def revoke(self) -> None:
        """Take back every token issued so far."""
        self._revoked_up_to = self._number

    def as_json(self) -> dict[str, object]:
        issued = self.google + self.entra
        return {"issued": issued, "google": self.google, "entra": self.entra, "refused": self.refused}

    def is_revoked(self, token: str) -> bool:
        """Whether this was issued here and has been taken back."""
        found = _NUMBER.search(token)
        return found is not None and int(found[1]) <= self._revoked_up_to

    def answer(self, request: Request) -> Reply | None:
        """The reply to a request for a token; None for any other request."""
        if request.method != "POST":
            return None
        entra = _ENTRA_PATH.fullmatch(request.path)
        if entra is None and request.path != _GOOGLE_PATH:
            return None
        form = {name: values[-1] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        plan = self.plan
        if plan.status != 200:
            self.plan = _once_less(plan)
            return self._refusal(plan.status, "temporarily_unavailable", "The token endpoint was told to refuse.")
        return self._google(form) if entra is None else self._entra(form)

    def _google(self, form: dict[str, str]) -> Reply:
        if form.get("grant_type") != _GRANT:
            return self._refusal(400, "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")
        claims = _claims(form.get("assertion", ""))
        if claims is None:
            return self._refusal(400, "invalid_grant", "Invalid JWT: not three parts with claims in the second.")
        self.google += 1
        told = {"access_token": self._issued("ya29.sim", str(claims.get("iss"))), "expires_in": self.plan.expires_in}
        return _json(200, {**told, "token_type": "Bearer"})

    def _entra(self, form: dict[str, str]) -> Reply:
        if form.get("grant_type") != "client_credentials":
            message = "AADSTS70003: The app requested an unsupported grant type."
            return self._refusal(400, "unsupported_grant_type", message)
        missing = next((name for name in ("client_id", "scope") if not form.get(name)), None)
        if missing is not None:
            message = f"AADSTS900144: The request body must contain the following parameter: '{missing}'."
            return self._refusal(400, "invalid_request", message)
        if not form.get("client_secret") and not form.get("client_assertion"):
            message = "AADSTS7000218: The request body must contain 'client_assertion' or 'client_secret'."
            return self._refusal(401, "invalid_client", message)
        self.entra += 1
        lifetime = {"expires_in": self.plan.expires_in, "ext_expires_in": self.plan.expires_in}
        token = self._issued("sim-entra", form["client_id"])
        return _json(200, {"token_type": "Bearer", **lifetime, "access_token": token})

    def _issued(self, start: str, holder: str) -> str:
        """A fresh token; a holder whose name says so gets one that has already run out."""
        self._number += 1
        mark = f"-{EXPIRED_TOKEN}" if EXPIRED_TOKEN in holder else ""
        return f"{start}{mark}-{self._number:08d}"

    def _refusal(self, status: int, error: str, message: str) -> Reply:
        self.refused += 1
        return _json(status, {"error": error, "error_description": message})


_NUMBER: Final = re.compile(r"^(?:ya29\.sim|sim-entra)-(?:[a-z-]+-)?(\d{8,})$")


def _once_less(plan: Plan) -> Plan:
    """The plan after one refusal."""
    if not plan.times:
        return plan
    return Plan(200 if plan.times == 1 else plan.status, plan.times - 1, plan.expires_in)


def _claims(assertion: str) -> dict[str, object] | None:
    """The claims of a JWT, whose signature nobody checks; None when it is none."""
    parts = assertion.split(".")
    if len(parts) != 3 or not all(parts):
        return None
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, msgspec.DecodeError):
        return None
    return claims if isinstance(claims, dict) else None


def _json(status: int, value: dict[str, object]) -> Reply:
    return Reply(status=status, body=msgspec.json.encode(value))
