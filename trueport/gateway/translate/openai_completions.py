"""OpenAI's older text completions, for clients: one prompt is one turn of the user's, and its continuation the answer.

A chat model does not continue a text but answers it, which is as near as the form comes to what models do today.

Source: https://platform.openai.com/docs/api-reference/completions
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, assert_never

from trueport.gateway.call import Usage
from trueport.gateway.translate.model import (
    Answer,
    CallPiece,
    Conversation,
    Counted,
    Ended,
    Failed,
    Finished,
    FinishReason,
    Format,
    JsonObject,
    Piece,
    Refusal,
    Shape,
    Started,
    Text,
    TextPiece,
    ThinkingPiece,
    Turn,
)
from trueport.gateway.translate.openai_chat_answers import (
    completion_id,
    error_object,
    new_number,
    unix_now,
    write_usage,
    written_finish,
)
from trueport.gateway.translate.openai_chat_reading import note_features
from trueport.gateway.translate.openai_chat_streams import event
from trueport.gateway.translate.openai_members import Members, Notes, sampling
from trueport.gateway.translate.unknown import tellable
from trueport.gateway.usage import later

FEATURE_NAMES: Final = frozenset({"best_of", "echo", "logit_bias", "several_prompts", "suffix", "token_prompt"})
"""Every name that reading a text completion may put into `Conversation.features`."""

_PLAIN: Final = frozenset(
    {
        "model", "prompt", "stream", "stream_options", "max_tokens", "temperature", "top_p", "stop", "seed",
        "frequency_penalty", "presence_penalty", "n", "logprobs", "user", "best_of",
    }
)  # fmt: skip
_FEATURES: Final[Mapping[str, tuple[str, tuple[object, ...]]]] = {
    "logit_bias": ("logit_bias", ({},)),
    "suffix": ("suffix", ("",)),
    "echo": ("echo", (False,)),
}
_EXTRAS: Final = frozenset({"logit_bias"})
_KNOWN: Final = _PLAIN | _FEATURES.keys()
# What OpenAI takes when the request does not say how long the answer may be.
_MOST_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class OpenAICompletions:
    """Text completions, for clients.

    `now` gives the Unix time in seconds for answers that have none, `number` a fresh text for ids of such as have none.
    """

    now: Callable[[], int] = unix_now
    number: Callable[[], str] = new_number
    name: Format = "openai_completions"

    def read_request(self, members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
        """What a text completion request means. Raises InvalidRequest that names what cannot be understood."""
        top, notes = Members(members), Notes()
        top.note_others(_KNOWN, notes)
        prompt = _read_prompt(top, notes)
        extras = note_features(top, _FEATURES, _EXTRAS, notes)
        best_of, logprobs = top.count("best_of"), top.count("logprobs")
        drawn = sampling(top, max_tokens=("max_tokens",), logprobs=None if logprobs is None else True)
        if best_of is not None and best_of > (drawn.candidates or 1):
            notes.features.add("best_of")
        options = top.inner("stream_options")
        return Conversation(
            model=model,
            turns=(Turn("user", (Text(prompt),) if prompt else ()),),
            sampling=replace(
                drawn,
                max_tokens=_MOST_TOKENS if drawn.max_tokens is None else drawn.max_tokens,
                top_logprobs=logprobs,
            ),
            streams=streams,
            wants_usage=not streams or (options is not None and options.flag("include_usage") is True),
            user=top.text("user"),
            features=frozenset(notes.features),
            unknown=tellable(notes.unknown),
            extras=extras,
        )

    def shape(self, members: Mapping[str, object], conversation: Conversation) -> Shape:
        """What its answers have to repeat. The form has no place for thoughts."""
        return Shape(
            model=str(members.get("model") or conversation.model),
            streams=conversation.streams,
            wants_usage=conversation.wants_usage,
            shows_thinking=False,
        )

    def write_answer(self, answer: Answer, shape: Shape) -> dict[str, object]:
        """A `text_completion` object: the text of each candidate, and a refusal's words as text."""
        body: dict[str, object] = {
            "id": completion_id(answer.id or self.number(), "cmpl-"),
            "object": "text_completion",
            "created": answer.created or self.now(),
            "model": answer.model or shape.model,
            "choices": [
                _choice(
                    index,
                    "".join(part.text for part in candidate.parts if isinstance(part, Text | Refusal)),
                    _finish(candidate.finish, has_refusal=any(isinstance(part, Refusal) for part in candidate.parts)),
                )
                for index, candidate in enumerate(answer.candidates)
            ],
        }
        if not answer.candidates and answer.blocked is not None:
            body["choices"] = [_choice(0, "", "content_filter")]
        return body if answer.usage is None else body | write_usage(answer.usage)

    def stream_encoder(self, shape: Shape) -> "CompletionsEncoder":
        return CompletionsEncoder(shape, now=self.now, number=self.number)


def _read_prompt(top: Members, notes: Notes) -> str:
    """The prompt. Lists of several, and tokens in place of text, are features."""
    said = top.values.get("prompt")
    match said:
        case str():
            return said
        case [str(only)]:
            return only
        case [first, *_] if isinstance(first, str):
            top.texts("prompt")
            notes.features.add("several_prompts")
            return first
        case [int(), *_] | [[int(), *_], *_]:
            notes.features.add("token_prompt")
            return ""
    raise top.wrong("prompt", "a string")


def _finish(finish: FinishReason, *, has_refusal: bool) -> str:
    said = written_finish(finish, has_refusal=has_refusal)
    return "stop" if said == "tool_calls" else said


def _choice(index: int, text: str, finish: str | None) -> JsonObject:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


class CompletionsEncoder:
    """Writes a client's stream of `text_completion` objects."""

    def __init__(
        self, shape: Shape, *, now: Callable[[], int] = unix_now, number: Callable[[], str] = new_number
    ) -> None:
        self._shape = shape
        self._now = now
        self._number = number
        self._head: dict[str, object] = {}
        self._usage: Usage | None = None
        self._refused: set[int] = set()
        self._has_failed = False

    def write(self, piece: Piece) -> bytes:
        written = b""
        match piece:
            case _ if self._has_failed:
                pass  # nothing follows an error
            case Started():
                self._usage = piece.usage
                self._start(piece)
            case TextPiece():
                if piece.is_refusal:
                    self._refused.add(piece.candidate)
                if piece.text:
                    written = self._chunk(_choice(piece.candidate, piece.text, None))
            case Finished():
                finish = _finish(piece.finish, has_refusal=piece.candidate in self._refused)
                written = self._chunk(_choice(piece.candidate, "", finish))
            case Counted():
                self._usage = later(self._usage, piece.usage)
            case Failed():
                self._has_failed = True
                written = event({"error": error_object(piece.failure)})
            case Ended():
                written = self._end()
            case ThinkingPiece() | CallPiece():
                pass  # no place for either; tools cannot be offered in this form
            case _:
                assert_never(piece)
        return written

    def _start(self, piece: Started) -> None:
        self._head = {
            "id": completion_id(piece.id or self._number(), "cmpl-"),
            "object": "text_completion",
            "created": piece.created or self._now(),
            "model": piece.model or self._shape.model,
        }

    def _chunk(self, choice: JsonObject) -> bytes:
        if not self._head:
            self._start(Started("", ""))
        # A client that asked for usage gets the member in each chunk, empty until the last one.
        usage = {"usage": None} if self._shape.wants_usage else {}
        return event({**self._head, "choices": [choice], **usage})

    def _end(self) -> bytes:
        if self._usage is None or not self._shape.wants_usage:
            return b"data: [DONE]\n\n"
        if not self._head:
            self._start(Started("", ""))
        return event({**self._head, "choices": [], **write_usage(self._usage)}) + b"data: [DONE]\n\n"
