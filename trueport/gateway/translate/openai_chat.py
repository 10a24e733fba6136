"""OpenAI's chat completions, the form most clients and providers speak.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trueport.gateway.translate.model import Answer, Conversation, Failure, Format, Shape
from trueport.gateway.translate.openai_chat_answers import (
    new_number,
    read_answer,
    read_failure,
    unix_now,
    write_answer,
)
from trueport.gateway.translate.openai_chat_reading import read_conversation
from trueport.gateway.translate.openai_chat_streams import ChatDecoder, ChatEncoder
from trueport.gateway.translate.openai_chat_writing import write_conversation


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """Chat completions, for clients and for providers.

    `now` gives the Unix time in seconds for answers that have none, `number` a fresh text for ids of such as have none.
    """

    now: Callable[[], int] = unix_now
    number: Callable[[], str] = new_number
    name: Format = "openai_chat"

    def read_request(self, members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
        """What a chat completion request means. Raises InvalidRequest that names what cannot be understood."""
        return read_conversation(members, model, streams=streams)

    def shape(self, members: Mapping[str, object], conversation: Conversation) -> Shape:
        """What answers repeat: whether tools were offered as the older `functions`, to be called as such."""
        return Shape(
            model=str(members.get("model") or conversation.model),
            streams=conversation.streams,
            wants_usage=conversation.wants_usage,
            shows_thinking=conversation.reasoning.is_shown is not False,
            echo={"functions": True} if members.get("functions") and not members.get("tools") else {},
        )

    def write_request(self, conversation: Conversation, model: str) -> tuple[str, dict[str, object]]:
        """The request as a provider gets it. Raises NotTranslatable for media no message can hold."""
        return "chat/completions", write_conversation(conversation, model)

    def read_answer(self, body: Mapping[str, object]) -> Answer:
        """A whole answer. Raises UnreadableAnswer when it is none."""
        return read_answer(body)

    def read_failure(self, status: int, body: bytes) -> Failure:
        """An error answer, in any of the shapes that OpenAI-like servers give it."""
        return read_failure(status, body)

    def write_answer(self, answer: Answer, shape: Shape) -> dict[str, object]:
        """A `chat.completion` object."""
        return write_answer(answer, shape, answer.created or self.now(), answer.id or self.number())

    def stream_decoder(self) -> ChatDecoder:
        return ChatDecoder()

    def stream_encoder(self, shape: Shape) -> ChatEncoder:
        return ChatEncoder(shape, now=self.now, number=self.number)
