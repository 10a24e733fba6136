"""Keys in AWS KMS: Encrypt and Decrypt of its JSON protocol, signed with Signature Version 4.

Credentials are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), read for
each request, since they change.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from yarl import URL

from trueport.kit.clock import Clock
from trueport.storage.aws_signature import Signatory, signed
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
        environ = os.environ
        signatory = Signatory(
            "kms",
            self._region,
            environ.get("AWS_ACCESS_KEY_ID", ""),
            environ.get("AWS_SECRET_ACCESS_KEY", ""),
            environ.get("AWS_SESSION_TOKEN"),
        )
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
        digest = hashlib.sha256(body).hexdigest()
        return signed(signatory, "POST", self._endpoint, digest, headers, self._clock.now())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(members: Mapping[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(members[name], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise KeyServiceUnavailable from error
