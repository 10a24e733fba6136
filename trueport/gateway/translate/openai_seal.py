"""Signed reasoning of other providers inside the Responses API's `encrypted_content`.

Some providers want their reasoning back, with its signature, when its turn is sent again. Responses clients send their
reasoning items back as they came, so the signature travels in the member that is opaque to them anyway.
"""

from typing import Final

from trueport.gateway.translate.model import Format, Thinking

SEALED_REASONING: Final = "reasoning.encrypted_content"
"""What a request's `include` says when it wants sealed reasoning."""

_MARK: Final = "trueport"
_SIGNERS: Final[dict[str, Format]] = {"anthropic": "anthropic", "google": "google", "openai_chat": "openai_chat"}


def sealed(signed_by: Format | None, signature: str | None, redacted: str | None) -> str | None:
    """The `encrypted_content` for reasoning that is signed or redacted; None when it is neither, or by nobody."""
    if signed_by is None or (signature is None and redacted is None):
        return None
    kind, value = ("signature", signature) if signature is not None else ("redacted", redacted)
    return f"{_MARK}:{signed_by}:{kind}:{value}"


def unsealed(content: str | None, text: str) -> Thinking:
    """The reasoning in an item. What is not of `sealed` is OpenAI's own, which nobody else can open."""
    if not content:
        return Thinking(text)
    mark, _, rest = content.partition(":")
    signer, _, rest = rest.partition(":")
    kind, _, value = rest.partition(":")
    signed_by = _SIGNERS.get(signer)
    if mark != _MARK or signed_by is None or not value:
        return Thinking(text, redacted=content, signed_by="openai_responses")
    if kind == "signature":
        return Thinking(text, signature=value, signed_by=signed_by)
    return Thinking(text, redacted=value, signed_by=signed_by)
