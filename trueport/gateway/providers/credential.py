"""The secret of a provider account, in the two forms it comes in: a key, or a JSON object to get tokens with."""

from collections.abc import Mapping

import msgspec

from trueport.gateway.egress import UpstreamFailure
from trueport.gateway.snapshot import Credential


class CredentialRefused(UpstreamFailure):
    """The configured credential is of no use: not well-formed, or not accepted where tokens are given out.

    Nothing has been sent to the model's provider, and only a change of the configuration will help.
    """

    code = "upstream_auth"
    status = 502
    counts_as_failure = False
    should_retry = False

    def __init__(self, message: str = "The credential configured for this provider was not accepted.") -> None:
        super().__init__(message, request_sent=False)


def key_of(credential: Credential) -> str | None:
    """The key as a header carries it; None for an account that needs none. Raises CredentialRefused."""
    if credential.secret is None:
        return None
    key = credential.secret.reveal()
    if not key or not key.isascii() or not key.isprintable():
        raise CredentialRefused("The credential configured for this provider is not a key.")
    return key


def holds_json(credential: Credential) -> bool:
    """Whether the secret is a JSON object rather than a key. No provider's keys begin with a brace."""
    return credential.secret is not None and credential.secret.reveal().lstrip()[:1] == "{"


def json_of(credential: Credential) -> Mapping[str, object]:
    """The JSON object that the secret is. Raises CredentialRefused, which repeats nothing of it."""
    text = credential.secret.reveal() if credential.secret is not None else ""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError):
        # Without the cause: a decoder's message quotes what it could not read.
        raise CredentialRefused("The credential configured for this provider is not a JSON object.") from None
