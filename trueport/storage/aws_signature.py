"""AWS Signature Version 4: the headers that prove who sends a request to one of Amazon's services, or to what speaks
like one.

Steps and names as in https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from yarl import URL


@dataclass(frozen=True, slots=True)
class Signatory:
    """Who signs, for which service in which region. `token` belongs to credentials that were lent for a time."""

    service: str
    region: str
    key_id: str
    secret: str
    token: str | None

    def __repr__(self) -> str:
        return f"Signatory({self.service!r}, {self.region!r})"


def signed(
    signatory: Signatory, verb: str, url: URL, digest: str, headers: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """The headers, with names in lower case, and with them host, time and signature.

    `url` is encoded as it is sent, `digest` the SHA-256 (hex) of the body.
    """
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    given = {**headers, "host": url.host_port_subcomponent or "", "x-amz-date": moment}
    if signatory.token:
        given["x-amz-security-token"] = signatory.token
    names = ";".join(sorted(given))
    lines = "".join(f"{name}:{given[name]}\n" for name in sorted(given))
    request = "\n".join((verb, url.raw_path, url.raw_query_string, lines, names, digest))
    place = f"{moment[:8]}/{signatory.region}/{signatory.service}/aws4_request"
    said = "\n".join(("AWS4-HMAC-SHA256", moment, place, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{signatory.secret}".encode()
    for part in place.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, said.encode(), "sha256").hex()
    given["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signatory.key_id}/{place}, SignedHeaders={names}, Signature={signature}"
    )
    return given
