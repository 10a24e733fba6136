"""JSON over HTTP to a key management service, outside the event loop."""

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from yarl import URL

from trueport.storage.wrapping.base import WRAP_TIMEOUT_S, KeyServiceUnavailable

_MOST_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and parsed members; a body that is no JSON object has none."""

    status: int
    members: dict[str, Any]


async def post(url: URL, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Redirects are not followed. Raises KeyServiceUnavailable when there is no answer, or one of 429 or 5xx."""
    answer = await asyncio.to_thread(_post, url, body, headers)
    if answer.status == 429 or answer.status >= 500:
        raise KeyServiceUnavailable
    return answer


def _post(url: URL, body: bytes, headers: Mapping[str, str]) -> Answer:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.host or "", url.port, timeout=WRAP_TIMEOUT_S)
    try:
        connection.request("POST", url.raw_path_qs, body, dict(headers))
        reply = connection.getresponse()
        data = reply.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise KeyServiceUnavailable from error
    finally:
        connection.close()
    try:
        members = json.loads(data)
    except ValueError:
        members = {}
    return Answer(reply.status, members if isinstance(members, dict) else {})
