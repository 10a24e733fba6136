"""The seam between the relay and a client's dialect."""

from collections.abc import Callable, Sequence
from typing import Protocol

from trueport.gateway.call import HeaderList, Request, Usage, Wire
from trueport.gateway.translate.model import Format
from trueport.kit.errors import TrueportError


class StreamReader(Protocol):
    """Looks at a provider's events as they pass and says what the client gets to see."""

    @property
    def is_complete(self) -> bool:
        """Whether the stream may end here."""

    @property
    def has_ended(self) -> bool:
        """Whether the dialect's end mark has passed: nothing after it matters."""

    @property
    def usage(self) -> Usage | None:
        """The provider's numbers, once they have passed."""

    @property
    def usage_doubtful(self) -> bool:
        """Whether numbers came that no honest meter shows, and were not believed."""

    @property
    def model(self) -> str | None:
        """The model the provider says it used."""

    @property
    def failed(self) -> bool:
        """Whether the provider reported an error inside the stream."""

    @property
    def output_events(self) -> int:
        """How many events carried output: about one token each, for an estimate when no usage came."""

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        """What of these events the client gets, in order; may be empty."""

    def ending(self) -> bytes:
        """What the client gets once the stream is complete and closed; mostly nothing."""


class Dialect(Protocol):
    """How a family of clients asks, and wants to be answered.

    A dialect also reads what providers of its wire answer, whoever asked them.
    """

    @property
    def name(self) -> str:
        """What routes and records call it."""

    @property
    def wire(self) -> Wire:
        """The family of wire formats it belongs to."""

    @property
    def request_id_header(self) -> bytes:
        """The header in which its clients look for the id of their request."""

    def credential(self, headers: HeaderList, query: str) -> str | None:
        """The API key the client sent, or None. `query` is the raw query string, a key in it included.

        Raises AmbiguousCredential when it sent two different ones.
        """

    def read(self, method: str, path: str, query: str, content_type: str, body: bytes) -> Request:
        """Understand the request. Raises a kit InvalidRequest or NotFound the client can act on."""

    def format_of(self, request: Request) -> Format | None:
        """The form of the conversation in a request of kind "chat"; None for one that does not translate."""

    def with_model(self, request: Request, model: str) -> Request:
        """The request for another model; every other member as it was."""

    def usage(self, body: bytes) -> tuple[Usage | None, bool, str | None]:
        """From a whole answer: usage, whether its numbers were impossible, and the model that answered."""

    def only_models(self, body: bytes, may_use: Callable[[str], bool]) -> bytes:
        """A list of models without those that `may_use` denies; empty when `body` is no such list."""

    def with_own_links(self, request: Request, body: bytes) -> bytes:
        """A whole answer whose links to the provider lead here, where they are ones that clients follow.

        They would take the client's key along, to somebody whom it is not for.
        """

    def stream_reader(self, request: Request) -> StreamReader:
        """A fresh reader for the stream that answers `request`."""

    def refusal(self, error: TrueportError, interaction_id: str, request_id: str) -> tuple[int, HeaderList, bytes]:
        """Status, headers and body of an error."""

    def error_event(self, error: TrueportError, interaction_id: str, request_id: str) -> bytes:
        """The same error after the first byte, as an event of the stream. No end mark follows."""
