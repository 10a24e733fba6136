"""The seam between the neutral form and one wire format."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from trueport.gateway.translate.model import Answer, Conversation, Failure, Format, Piece, Shape


class StreamDecoder(Protocol):
    """Reads one provider's stream."""

    def read(self, name: str, data: bytes) -> Sequence[Piece]:
        """The pieces in one event: `name` is its `event` field ("" without one), `data` its data.

        What carries nothing (a ping, a comment, an unknown event) gives none. Raises UnreadableAnswer for data that
        is not of the format.
        """


class StreamEncoder(Protocol):
    """Writes one client's stream."""

    def write(self, piece: Piece) -> bytes:
        """The bytes of the events that say `piece`, each with its blank line; may be empty.

        A format's end mark is written for Ended and for nothing else, so that a cut stream never looks whole.
        """


class ProviderFormat(Protocol):
    """A format in which providers are asked."""

    @property
    def name(self) -> Format:
        """What the rules call it."""

    def write_request(self, conversation: Conversation, model: str) -> tuple[str, dict[str, object]]:
        """The operation and the JSON body for it. What the format cannot say has been checked before (rules.py)."""

    def read_answer(self, body: Mapping[str, object]) -> Answer:
        """A whole answer. Raises UnreadableAnswer when it is not of the format."""

    def read_failure(self, status: int, body: bytes) -> Failure:
        """An error answer, however broken."""

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for one stream."""


class ClientFormat(Protocol):
    """A format in which clients ask."""

    @property
    def name(self) -> Format:
        """What the rules call it."""

    def read_request(self, members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
        """What a request means. Raises a kit InvalidRequest that names the member which cannot be understood."""

    def shape(self, members: Mapping[str, object], conversation: Conversation) -> Shape:
        """What its answers have to repeat."""

    def write_answer(self, answer: Answer, shape: Shape) -> dict[str, object]:
        """A whole answer's body."""

    def stream_encoder(self, shape: Shape) -> StreamEncoder:
        """An encoder for one stream."""
