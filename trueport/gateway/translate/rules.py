"""What happens to what another format cannot say: carried, dropped with a warning, or refused. One table.

The rule behind it: what changes what the answer is made of, or where data goes, is refused; what only tunes it is
dropped, and the answer's header says so. The documentation's table is generated from this one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from trueport.gateway.translate.model import Conversation, Media, Part, Thinking, ToolResult
from trueport.kit.errors import InvalidRequest, TrueportError

ProviderSide = Literal["openai_chat", "anthropic", "google"]
Verdict = Literal["carried", "dropped", "refused"]
IsUsed = Callable[[Conversation], bool]

_VERDICTS: Final[Mapping[str, Verdict]] = {"C": "carried", "D": "dropped", "R": "refused"}
_SIDES: Final[tuple[ProviderSide, ...]] = ("openai_chat", "anthropic", "google")


class NotTranslatable(InvalidRequest):
    """The request uses something the provider that serves its model cannot do."""

    code = "not_translatable"

    def __init__(self, feature: str, provider_format: str, param: str | None) -> None:
        super().__init__(
            f"{feature} cannot be carried over to the provider that serves this model ({provider_format}): "
            "leave it out, or use a model whose provider has it.",
            param=param,
        )


class UnreadableAnswer(TrueportError):
    """The provider's answer is not of its own format, so it cannot be translated."""

    code = "upstream_invalid"
    status = 502


@dataclass(frozen=True, slots=True)
class Feature:
    """Something a request may use. `param` is the member an error points at."""

    name: str
    on: Mapping[ProviderSide, Verdict]
    note: str
    param: str | None
    is_used: IsUsed


def _feature(name: str, verdicts: str, note: str, *, param: str | None = None, used: IsUsed | None = None) -> Feature:
    """`verdicts` has a letter each for openai_chat, anthropic and google: C, D or R."""
    on = {side: _VERDICTS[letter] for side, letter in zip(_SIDES, verdicts, strict=True)}
    return Feature(name, on, note, param, used or (lambda conversation: name in conversation.features))


def _has_part(fits: Callable[[Part], bool], role: str | None = None) -> IsUsed:
    return lambda conversation: any(
        fits(part) for turn in conversation.turns if role in (None, turn.role) for part in turn.parts
    )


def _is_sound(part: Part) -> bool:
    return isinstance(part, Media) and part.kind == "audio"


def _is_media(part: Part) -> bool:
    return isinstance(part, Media)


def _has_detail(part: Part) -> bool:
    return isinstance(part, Media) and part.detail not in (None, "auto")


def _is_error(part: Part) -> bool:
    return isinstance(part, ToolResult) and part.is_error


def _thinks_for(side: ProviderSide) -> IsUsed:
    return _has_part(lambda part: isinstance(part, Thinking) and part.signed_by not in (None, side))


FEATURES: Final = (
    # What an answer is made of
    _feature("hosted_tool:web_search", "RRR", "A tool that runs at its own provider.", param="tools"),
    _feature("hosted_tool:file_search", "RRR", "A tool that runs at its own provider.", param="tools"),
    _feature("hosted_tool:code_interpreter", "RRR", "A tool that runs at its own provider.", param="tools"),
    _feature("hosted_tool:computer", "RRR", "A tool that runs at its own provider.", param="tools"),
    _feature("hosted_tool:image_generation", "RRR", "A tool that runs at its own provider.", param="tools"),
    _feature("hosted_tool:mcp", "RRR", "The provider would connect to the server, another cannot.", param="tools"),
    _feature("hosted_tool:local_shell", "RRR", "A tool models of one provider are trained for.", param="tools"),
    _feature("hosted_tool:shell", "RRR", "A tool models of one provider are trained for.", param="tools"),
    _feature("hosted_tool:apply_patch", "RRR", "A tool models of one provider are trained for.", param="tools"),
    _feature("hosted_tool:tool_search", "RRR", "A tool that runs at its own provider.", param="tools"),
    _feature("hosted_tool:programmatic_tool_calling", "RRR", "A tool that runs at its own provider.", param="tools"),
    _feature("hosted_tool:other", "RRR", "A tool of a kind nobody else has.", param="tools"),
    _feature("hosted_tool_history", "RRR", "What such a tool did before would be missing."),
    _feature("custom_tool", "RRR", "A tool with free text for arguments.", param="tools"),
    _feature("tool_namespace", "RRR", "Some tools would be missing.", param="tools"),
    _feature("allowed_tools", "RRR", "The model could call tools it must not.", param="tool_choice"),
    _feature("stored_state", "RRR", "Earlier turns lie at another provider."),
    _feature("compacted_context", "RRR", "Earlier turns, sealed by another provider.", param="input"),
    _feature("unknown_item", "RRR", "Part of the conversation would be missing.", param="input"),
    _feature("stored_file", "RRR", "A file that lies at another provider."),
    _feature("container", "RRR", "A workspace kept at another provider.", param="container"),
    _feature("search_results", "RRR", "Sources the model is to read would be missing.", param="messages"),
    _feature("video_input", "RRR", "No other format takes video.", param="contents"),
    _feature(
        "audio_input", "CRC", "Inline wav and mp3.", param="messages", used=_has_part(_is_sound, "user")
    ),
    _feature(
        "media_output", "RRR", "Pictures or sounds in the assistant's turns.", param="messages",
        used=_has_part(_is_media, "assistant"),
    ),
    _feature("audio_output", "RRR", "A spoken answer.", param="modalities"),
    _feature("image_output", "RRR", "A painted answer.", param="generationConfig.responseModalities"),
    _feature("output_media_type", "RRR", "An answer in a form of its own.", param="generationConfig.responseMimeType"),
    _feature("inference_region", "RRR", "A promise about where data goes.", param="inference_geo"),
    _feature("moderation", "RRR", "A check another provider does not make.", param="moderation"),
    _feature("several_prompts", "RRR", "One call, several answers.", param="prompt"),
    _feature("token_prompt", "RRR", "Tokens of one provider's models.", param="prompt"),
    _feature("echo", "RRR", "The prompt repeated in the answer.", param="echo"),
    _feature("suffix", "RRR", "Text to be continued in its middle.", param="suffix"),
    _feature("best_of", "RRR", "The best of several answers.", param="best_of"),
    _feature(
        "candidates", "CRC", "Several answers to one question.", param="n",
        used=lambda conversation: (conversation.sampling.candidates or 1) > 1,
    ),
    _feature(
        "logprobs", "RRR", "Probabilities of tokens, which are told in each provider's own tokens.", param="logprobs",
        used=lambda conversation: bool(conversation.sampling.logprobs or conversation.sampling.top_logprobs),
    ),
    # What tunes it, or is kept beside it
    _feature("late_instructions", "CDD", "System text between turns is said in the user's place."),
    _feature("logit_bias", "CDD", "Weights of single tokens.", param="logit_bias"),
    _feature("verbosity", "CDD", "How long an answer is to be.", param="verbosity"),
    _feature("prediction", "CDD", "A draft that speeds the answer up.", param="prediction"),
    _feature("service_tier", "DDD", "The queue the call waits in.", param="service_tier"),
    _feature("store", "DDD", "Translated answers are kept nowhere.", param="store"),
    _feature("metadata", "DDD", "Labels in the provider's own log.", param="metadata"),
    _feature("labels", "DDD", "Labels in the provider's own bill.", param="labels"),
    _feature("prompt_cache", "DDD", "Hints for the provider's cache.", param="prompt_cache_key"),
    _feature("automatic_caching", "DDD", "Hints for the provider's cache.", param="cache_control"),
    _feature("truncation", "DDD", "What to do with too long a conversation.", param="truncation"),
    _feature("context_management", "DDD", "What to do with a long conversation.", param="context_management"),
    _feature("max_tool_calls", "DDD", "A bound on tools that run at the provider.", param="max_tool_calls"),
    _feature("media_resolution", "DDD", "How closely pictures are looked at.", param="mediaResolution"),
    _feature("safety_settings", "DDD", "The provider's own filters; the gateway's policies hold all the same."),
    _feature("citations", "DDD", "The text stays, its sources are left out."),
    _feature(
        "top_k", "DCC", "A bound on the tokens drawn from.", param="top_k",
        used=lambda conversation: conversation.sampling.top_k is not None,
    ),
    _feature(
        "seed", "CDC", "Repeatable draws.", param="seed",
        used=lambda conversation: conversation.sampling.seed is not None,
    ),
    _feature(
        "frequency_penalty", "CDC", "Fewer repetitions.", param="frequency_penalty",
        used=lambda conversation: bool(conversation.sampling.frequency_penalty),
    ),
    _feature(
        "presence_penalty", "CDC", "More variety.", param="presence_penalty",
        used=lambda conversation: bool(conversation.sampling.presence_penalty),
    ),
    _feature(
        "temperature above 1", "CDC", "Anthropic's scale ends at 1, which is then used.", param="temperature",
        used=lambda conversation: (conversation.sampling.temperature or 0) > 1,
    ),
    _feature(
        "one tool call at a time", "CCD", "Gemini cannot be told.", param="parallel_tool_calls",
        used=lambda conversation: conversation.tool_choice.one_at_a_time is True,
    ),
    _feature(
        "strict tools", "CCD", "Arguments follow the schema, though not by guarantee.", param="tools",
        used=lambda conversation: any(tool.is_strict for tool in conversation.tools),
    ),
    _feature(
        "user", "CCD", "The tag stays in the gateway's own records.", param="user",
        used=lambda conversation: conversation.user is not None,
    ),
    _feature(
        "participant names", "CDD", "Who of several speakers said it.", param="messages",
        used=lambda conversation: any(turn.name is not None for turn in conversation.turns),
    ),
    _feature("image detail", "CDD", "How closely a picture is looked at.", used=_has_part(_has_detail)),
    _feature(
        "errors of tools", "CCC", "On OpenAI a line of text that says so.", used=_has_part(_is_error)
    ),
)  # fmt: skip

_BY_NAME: Final = {feature.name: feature for feature in FEATURES}


def check(conversation: Conversation, target: ProviderSide) -> tuple[str, ...]:
    """The names of what will be dropped on the way to `target`, for the warning header.

    Raises NotTranslatable for the first thing that must not be lost silently; a feature without a rule is one.
    """
    for name in sorted(conversation.features - _BY_NAME.keys()):
        raise NotTranslatable(name, target, None)
    dropped = []
    for feature in FEATURES:
        verdict = feature.on[target]
        if verdict == "carried" or not feature.is_used(conversation):
            continue
        if verdict == "refused":
            raise NotTranslatable(feature.name, target, feature.param)
        dropped.append(feature.name.replace(" ", "_"))
    if _thinks_for(target)(conversation):
        dropped.append("thinking_signed_elsewhere")
    return (*dropped, *conversation.unknown)


def as_table() -> str:
    """The rules as a Markdown table."""
    rows = [
        f"| {feature.name} | {' | '.join(feature.on[side] for side in _SIDES)} | {feature.note} |"
        for feature in FEATURES
    ]
    head = ["| what a request uses | OpenAI, Azure | Anthropic | Google | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])
