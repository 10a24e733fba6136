"""Keys in AWS KMS: Encrypt and Decrypt of its JSON protocol, signed with Signature Version 4.

Credentials are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), read for
each request, since they change.
"""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from yarl import URL

from trueport.kit.clock import Clock
from trueport.storage.wrapping.base import KeyRefused, KeyServiceUnavailable
from trueport.storage.wrapping.http import post

_PASSING: Final = frozenset(
    {"ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"}
)


class AwsKmsWrapper:
    """Implements KeyWrapper. `context` is the encryption context, which CloudTrail shows."""

    def __init__(self, key_id: str, region: str, endpoint: URL | None, clock: Clock) -> None:
        self._key_id = key_id
        self._region = region
        self._endpoint = endpoint or URL(f"https://kms.{region}.amazonaws.com/")
        self._clock = clock

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        asked = {"KeyId": self._key_id, "Plaintext": _text(key), "EncryptionContext": dict(context)}
        return _bytes(await self._call("Encrypt", asked), "CiphertextBlob")

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        asked = {"KeyId": self._key_id, "CiphertextBlob": _text(wrapped), "EncryptionContext": dict(context)}
        return _bytes(await self._call("Decrypt", asked), "Plaintext")

    async def _call(self, operation: str, asked: Mapping[str, object]) -> dict[str, Any]:
        body = json.dumps(asked).encode()
        answer = await post(self._endpoint, body, self._signed(f"TrentService.{operation}", body))
        if answer.status == 200:
            return answer.members
        kind = str(answer.members.get("__type", "")).rpartition("#")[2]
        raise KeyServiceUnavailable if kind in _PASSING else KeyRefused

    def _signed(self, target: str, body: bytes) -> dict[str, str]:
        """The headers of a request (AWS Signature Version 4)."""
        moment = self._clock.now().strftime("%Y%m%dT%H%M%SZ")
        default = {"http": 80, "https": 443}.get(self._endpoint.scheme)
        host = self._endpoint.host or ""
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "host": host if self._endpoint.port == default else f"{host}:{self._endpoint.port}",
            "x-amz-date": moment,
            "x-amz-target": target,
        }
        if token := os.environ.get("AWS_SESSION_TOKEN"):
            headers["x-amz-security-token"] = token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = "\n".join(("POST", "/", "", lines, names, hashlib.sha256(body).hexdigest()))
        place = f"{moment[:8]}/{self._region}/kms/aws4_request"
        said = "\n".join(("AWS4-HMAC-SHA256", moment, place, hashlib.sha256(request.encode()).hexdigest()))
        key = f"AWS4{os.environ.get('AWS_SECRET_ACCESS_KEY', '')}".encode()
        for part in place.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, said.encode(), "sha256").hex()
        who = os.environ.get("AWS_ACCESS_KEY_ID", "")
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={who}/{place}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(members: Mapping[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(members[name], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise KeyServiceUnavailable from error
