"""A call that is asked in one format and served in another: the request over, the answer back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from trueport.gateway.call import Request, Wire
from trueport.gateway.dialects.base import Dialect, StreamReader
from trueport.gateway.dialects.meter import WrappedReader
from trueport.gateway.streaming import event_data, event_name
from trueport.gateway.translate.anthropic import Anthropic
from trueport.gateway.translate.base import ClientFormat, ProviderFormat
from trueport.gateway.translate.google import Google
from trueport.gateway.translate.model import Ended, Format, Shape
from trueport.gateway.translate.openai_chat import OpenAIChat
from trueport.gateway.translate.openai_completions import OpenAICompletions
from trueport.gateway.translate.openai_responses import OpenAIResponses
from trueport.gateway.translate.rules import ProviderSide, UnreadableAnswer, check
from trueport.kit.errors import TrueportError

CLIENT_FORMATS: Final[Mapping[Format, ClientFormat]] = {
    "openai_chat": OpenAIChat(),
    "openai_responses": OpenAIResponses(),
    "openai_completions": OpenAICompletions(),
    "anthropic": Anthropic(),
    "google": Google(),
}
PROVIDER_FORMATS: Final[Mapping[Wire, ProviderFormat]] = {
    "openai": OpenAIChat(),
    "anthropic": Anthropic(),
    "google": Google(),
}
_SIDES: Final[Mapping[Wire, ProviderSide]] = {"openai": "openai_chat", "anthropic": "anthropic", "google": "google"}
_json: Final = msgspec.json.Decoder(dict[str, object])


class ProviderError(TrueportError):
    """A provider of another wire answered with an error; its words in the client's dialect."""

    code = "upstream_error"

    def __init__(self, status: int, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        # 529 is Anthropic's alone; everybody else says the same with 503.
        self.status = 503 if status == 529 else status  # type: ignore[misc]  # the class's is the default
        self.retry_after_s = None if retry_after_s is None else max(1, int(retry_after_s))


@dataclass(frozen=True, slots=True)
class Bridge:
    """What is needed on the way back. `dropped` names what the provider was not told."""

    client: ClientFormat
    provider: ProviderFormat
    shape: Shape
    dropped: tuple[str, ...]

    def answer(self, body: bytes) -> bytes:
        """A whole answer in the client's format. Raises UnreadableAnswer."""
        try:
            said = _json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableAnswer("The provider's answer cannot be read.") from error
        return msgspec.json.encode(self.client.write_answer(self.provider.read_answer(said), self.shape))

    def error(self, status: int, body: bytes) -> ProviderError:
        """What an error answer says."""
        failure = self.provider.read_failure(status, body)
        return ProviderError(status, failure.message, failure.retry_after_s)

    def reader(self, inner: StreamReader) -> "BridgedReader":
        """A reader of the provider's stream, metered by `inner`, that gives the client's."""
        return BridgedReader(inner, self)


def bridged(request: Request, form: Format, target: Dialect, model: str) -> tuple[Request, Bridge]:
    """The request as `target`'s wire asks it for `model`, and the way back.

    Raises NotTranslatable for what must not be lost, and InvalidRequest for what cannot be understood.
    """
    client, provider = CLIENT_FORMATS[form], PROVIDER_FORMATS[target.wire]
    members = request.members or {}
    conversation = client.read_request(members, model, streams=request.streams)
    dropped = check(conversation, _SIDES[target.wire])
    operation, body = provider.write_request(conversation, model)
    path = f"v1beta/models/{model}:{operation}" if target.wire == "google" else operation
    # Read back by the gate every client's body passes, so that what is sent is metered and bounded like any other.
    query = "alt=sse" if target.wire == "google" and request.streams else ""
    outbound = target.read("POST", path, query, "application/json", msgspec.json.encode(body))
    return outbound, Bridge(client, provider, client.shape(members, conversation), dropped)


class BridgedReader(WrappedReader):
    """Implements StreamReader over a provider's reader; what the client gets is written anew, event by event."""

    __slots__ = ("_decoder", "_encoder", "_has_written_end")

    def __init__(self, inner: StreamReader, bridge: Bridge) -> None:
        super().__init__(inner)
        self._decoder = bridge.provider.stream_decoder()
        self._encoder = bridge.client.stream_encoder(bridge.shape)
        self._has_written_end = False

    @property
    def has_ended(self) -> bool:
        return self._inner.has_ended and self._has_written_end

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        self._inner.pass_on(events)
        written = []
        for event in events:
            data = event_data(event)
            if not data:
                continue
            for piece in self._decoder.read(event_name(event), data):
                self._has_written_end = self._has_written_end or isinstance(piece, Ended)
                written.append(self._encoder.write(piece))
        return b"".join(written)

    def ending(self) -> bytes:
        if self._has_written_end or self._inner.failed:
            return b""
        # Google's streams have no end mark: that all candidates have finished shows only when the stream is over.
        self._has_written_end = True
        return self._encoder.write(Ended())
