"""For each wire: which members of its own objects are structure, and what stands in the others.

A member that no table names is read, with its name and everything below it: new members of an API are covered on
the day they appear, and a text cannot hide in one. Even structure is skipped only where it looks like structure
(`is_token`): an id with blanks in it is read like any text.

Sources: the API references of the three wires, as gateway/dialects and gateway/translate name them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from trueport.detection.types import Role
from trueport.gateway.call import Wire
from trueport.gateway.texts.media import MediaKind

Leaf = Literal[
    "skip",  # structure
    "text",
    "json",  # a JSON document in a string
    "base64",  # content; its type stands beside it
    "url",  # where a content is that the model reads
    "link",  # a URL that is only shown
    "file",  # the id of a content kept at the provider
    "encrypted",
    "vector",  # numbers as base64
]
Inside = Literal[
    "wire",  # objects of the API
    "free",  # objects of a client or a model: nothing in them is structure
    "schema",  # JSON Schema
    "tokens",  # log probabilities: the text again, in pieces
    "skip",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a member holds: `leaf` where it is a string, `inside` where it is an object or a list.

    `role` None keeps the one of the place; `kind` is what content is that cannot be read and does not say.
    """

    leaf: Leaf
    inside: Inside = "wire"
    role: Role | None = None
    kind: MediaKind = "file"


_TOKEN: Final = re.compile(r"[A-Za-z0-9_.:/+=~-]{0,256}")
_LONG_TOKEN: Final = re.compile(r"[A-Za-z0-9_.:/+=~\s-]*")


def is_token(text: str) -> bool:
    """Whether a text in the place of structure looks like structure: one word of an id's or a type's characters."""
    return _TOKEN.fullmatch(text) is not None


def is_sealed(text: str) -> bool:
    """Whether a text in the place of something encrypted looks encrypted: base64, or a token of any length."""
    return _LONG_TOKEN.fullmatch(text) is not None and " " not in text


Rules = Mapping[str, Rule]


def _rules(*groups: tuple[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in groups for name in names.split()}


_SKIP: Final = Rule("skip", "skip")
_TEXT: Final = Rule("text")
_FREE: Final = Rule("text", "free")

_OPENAI: Final = _rules(
    (
        "model role type id object created created_at completed_at status status_details index sequence_number "
        "output_index content_index summary_index annotation_index item_id response_id event_id logit_bias stream "
        "stream_options stream_format background store n best_of seed temperature top_p top_k top_logprobs "
        "frequency_penalty presence_penalty parallel_tool_calls max_tokens max_completion_tokens max_output_tokens "
        "max_tool_calls service_tier system_fingerprint tool_call_id call_id approval_request_id finish_reason "
        "modalities include timestamp_granularities timestamp_granularities[] encoding_format dimensions "
        "truncation reasoning_effort verbosity prompt_cache_retention strict detail quality size background moderation "
        "output_compression output_format input_fidelity partial_images voice speed obfuscation usage effort "
        "purpose endpoint completion_window method expires_after expires_at status_code request_id "
        "previous_response_id in_progress_at finalizing_at failed_at expired_at cancelling_at cancelled_at "
        "request_counts input_tokens input_tokens_details output_tokens output_tokens_details total_tokens "
        "flagged categories category_scores category_applied_input_types has_more first_id last_id bytes "
        "start_index end_index start end duration seek temperature compression_ratio avg_logprob no_speech_prob "
        "logprob text_offset token_logprobs owned_by permission root parent incomplete_details "
        "prompt_filter_results content_filter_results content_filter_offsets phase syntax chunking_strategy "
        "conversation",
        _SKIP,
    ),
    (
        "choices message delta data content output item items function custom response_format format body "
        "request response result results part parts error errors tool_choice allowed_tools queries outputs segments "
        "words annotations annotation url_citation file_citation container_file_citation file",
        _TEXT,
    ),
    ("messages prompt input query", Rule("text", role="user")),
    ("instructions system", Rule("text", role="system")),
    ("tools functions", Rule("text", role="tool_definition")),
    ("json_schema definition", Rule("text", role="tool_definition")),
    ("name description title filename server_label server_description label suffix stop param code",
     Rule("text", "free")),
    ("text refusal transcript quote revised_prompt logs", _TEXT),
    ("reasoning reasoning_content summary thinking", Rule("text", role="reasoning")),
    ("reasoning.summary", Rule("skip", "wire")),
    ("prediction", Rule("text", role="assistant")),
    ("arguments", Rule("json", "free", role="tool_call")),
    ("tool_calls function_call", Rule("text", role="tool_call")),
    ("action pending_safety_checks acknowledged_safety_checks", Rule("text", "free", role="tool_call")),
    ("parameters schema", Rule("text", "schema", role="tool_definition")),
    ("metadata variables attributes headers", Rule("text", "free", role="metadata")),
    ("user safety_identifier prompt_cache_key custom_id", Rule("text", "free", role="metadata")),
    ("image_url", Rule("url", kind="image")),
    ("images image mask", Rule("url", kind="image")),
    ("file_url", Rule("url", kind="file")),
    ("server_url", Rule("link", role="metadata")),
    ("embedding", Rule("vector", "skip")),
    # A template kept at the provider: what it says is known there alone.
    ("prompt.id", Rule("file", kind="unknown")),
    ("prompt.version", _SKIP),
    ("url", Rule("url", kind="image")),
    ("file_id input_file_id output_file_id error_file_id file_ids", Rule("file", kind="file")),
    ("file_data", Rule("base64", kind="file")),
    ("b64_json partial_image_b64 partial_image", Rule("base64", kind="image")),
    ("input_audio audio", Rule("base64", kind="audio")),
    ("encrypted_content", Rule("encrypted")),
    ("logprobs", Rule("text", "tokens")),
    # A line of a batch, an error and a citation have a URL that is no content.
    ("url_citation.url web.url line.url source.url", Rule("link", role="document")),
    ("input_audio.data audio.data", Rule("base64", kind="audio")),
    ("input_audio.format audio.format", _SKIP),
    ("image_generation_call.result", Rule("base64", kind="image")),
    ("custom_tool_call.input custom.input", Rule("text", "free", role="tool_call")),
    ("function_call_output.output custom_tool_call_output.output", Rule("json", role="tool_result")),
    ("mcp_call.output", Rule("json", "free", role="tool_result")),
    ("file_search_call.results file_search_call.queries", Rule("text", "wire", role="document")),
    ("code_interpreter_call.code", Rule("text", role="tool_call")),
    ("file_path.file_id", Rule("skip")),
)  # fmt: skip

_ANTHROPIC: Final = _rules(
    (
        "model role type id max_tokens max_tokens_to_sample stream temperature top_p top_k service_tier inference_geo "
        "stop_reason usage cache_control ttl index is_error tool_use_id disable_parallel_tool_use budget_tokens "
        "media_type enabled processing_status request_counts created_at ended_at expires_at archived_at "
        "cancel_initiated_at results_url has_more first_id last_id input_tokens context_management speed effort "
        "display_width_px display_height_px display_number max_uses max_characters max_content_tokens retrieved_at "
        "start_char_index end_char_index start_page_number end_page_number start_block_index end_block_index "
        "document_index search_result_index page_age mime_type size_bytes downloadable request_id allowed_callers "
        "return_code error_code caller file_type num_lines start_line total_lines",
        _SKIP,
    ),
    ("messages content delta content_block message requests params result error citations data output "
     "output_config output_format format stop_details", _TEXT),
    ("prompt", Rule("text", role="user")),
    ("system", Rule("text", role="system")),
    ("tools", Rule("text", role="tool_definition")),
    ("completion", Rule("text", role="assistant")),
    ("thinking", Rule("text", role="reasoning")),
    ("name description title tool_name server_name stop_sequence stop_sequences message filename display_name",
     Rule("text", "free")),
    ("text stdout stderr", _TEXT),
    ("context cited_text document_title", Rule("text", role="document")),
    ("input", Rule("text", "free", role="tool_call")),
    ("partial_json", Rule("text", role="tool_call")),
    ("input_schema schema", Rule("text", "schema", role="tool_definition")),
    ("metadata user_location", Rule("text", "free", role="metadata")),
    ("custom_id", Rule("text", "free", role="metadata")),
    ("tool_choice", Rule("text")),
    ("source", Rule("link", role="document")),
    ("url", Rule("link", role="document")),
    ("base64.data", Rule("base64", kind="file")),
    ("text.data", Rule("text", role="document")),
    ("url.url", Rule("url", kind="file")),
    ("file_id", Rule("file", kind="file")),
    ("signature encrypted_content encrypted_index encrypted_stdout", Rule("encrypted")),
    ("redacted_thinking.data", Rule("encrypted")),
    ("tool_result.content", Rule("json", role="tool_result")),
    ("mcp_tool_result.content", Rule("json", role="tool_result")),
)  # fmt: skip

_GOOGLE: Final = _rules(
    (
        "model role mimeType id temperature topP topK maxOutputTokens candidateCount seed presencePenalty "
        "frequencyPenalty responseMimeType responseModalities responseLogprobs logprobsCount thinkingConfig "
        "mediaResolution safetySettings mode outcome language finishReason safetyRatings index usageMetadata "
        "modelVersion responseId createTime updateTime expireTime expirationTime startTime endTime ttl state "
        "tokenCount "
        "avgLogprobs promptFeedback blockReason totalTokens promptTokensDetails cacheTokensDetails "
        "cachedContentTokenCount values outputDimensionality taskType autoTruncate thought startIndex endIndex "
        "sha256Hash sizeBytes videoMetadata statistics embeddings embedding speechConfig "
        "enableAffectiveDialog behavior "
        "willContinue scheduling dynamicThreshold dynamicRetrievalConfig nextPageToken kind requestCounts code "
        "confidenceScores groundingChunkIndices priority",
        _SKIP,
    ),
    ("contents requests request.content", Rule("text", role="user")),
    ("candidates content parts generateContentRequest request requestsFile batch inputConfig inlinedRequests "
     "responses response inlinedResponses output result error generationConfig toolConfig functionCallingConfig "
     "details file files operation instances predictions groundingMetadata citationMetadata citations citationSources "
     "groundingChunks groundingSupports web retrievedContext segment urlContextMetadata urlMetadata executableCode "
     "codeExecutionResult", _TEXT),
    ("systemInstruction", Rule("text", role="system")),
    ("tools functionDeclarations", Rule("text", role="tool_definition")),
    ("parameters parametersJsonSchema responseSchema responseJsonSchema", Rule("text", "schema",
                                                                             role="tool_definition")),
    ("text", _TEXT),
    ("name displayName description title finishMessage message domain license stopSequences "
     "allowedFunctionNames webSearchQueries renderedContent status", Rule("text", "free")),
    ("functionCall", Rule("text", role="tool_call")),
    ("functionResponse", Rule("text", role="tool_result")),
    ("args", Rule("text", "free", role="tool_call")),
    ("functionResponse.response", Rule("text", "free", role="tool_result")),
    ("functionDeclarations.response", Rule("text", "schema", role="tool_definition")),
    ("executableCode.code", Rule("text", role="tool_call")),
    ("codeExecutionResult.output", Rule("text", role="tool_result")),
    ("labels metadata", Rule("text", "free", role="metadata")),
    ("prompt negativePrompt", Rule("text", role="user")),
    ("bytesBase64Encoded", Rule("base64", kind="image")),
    ("gcsUri", Rule("url", kind="file")),
    ("inlineData blob", Rule("text")),
    ("inlineData.data blob.data", Rule("base64", kind="file")),
    ("fileUri", Rule("url", kind="file")),
    ("uri retrievedUrl", Rule("link", role="document")),
    ("fileData", Rule("text")),
    ("cachedContent", Rule("skip", "skip")),
    ("fileName responsesFile", Rule("file", kind="file")),
    ("thoughtSignature", Rule("encrypted")),
    ("logprobsResult", Rule("text", "tokens")),
)  # fmt: skip

TABLES: Final[Mapping[Wire, Rules]] = {"openai": _OPENAI, "anthropic": _ANTHROPIC, "google": _GOOGLE}

SPEAKERS: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool_result",
    "function": "tool_result",
}
"""Whose text a message holds, by its `role`."""

BLOCKS: Final[Mapping[str, Role]] = {
    **dict.fromkeys(
        (
            *("tool_use", "server_tool_use", "mcp_tool_use", "function_call", "custom_tool_call", "mcp_call"),
            *("computer_call", "web_search_call", "code_interpreter_call", "local_shell_call", "image_generation_call"),
            *("input_json_delta", "shell_call", "apply_patch_call"),
        ),
        "tool_call",
    ),
    **dict.fromkeys(
        (
            *("tool_result", "mcp_tool_result", "web_search_tool_result", "web_fetch_tool_result"),
            *("code_execution_tool_result", "bash_code_execution_tool_result", "function_call_output"),
            *("text_editor_code_execution_tool_result", "custom_tool_call_output", "computer_call_output"),
            *("local_shell_call_output", "shell_call_output", "apply_patch_call_output"),
        ),
        "tool_result",
    ),
    **dict.fromkeys(("thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text"), "reasoning"),
    **dict.fromkeys(("document", "search_result", "file", "input_file", "file_search_call"), "document"),
}
"""Whose text a block holds, by its `type`; it goes before the message's role."""

_SCHEMA_WORDS: Final = frozenset(
    {
        *("type", "format", "$schema", "$ref", "$id", "additionalProperties", "nullable", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems"),
        *("uniqueItems", "minProperties", "maxProperties", "readOnly", "writeOnly", "deprecated", "strict"),
    }
)
_NAMED_SCHEMAS: Final = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_SCHEMAS: Final = frozenset(
    {"items", "prefixItems", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "contains", "additionalProperties",
     "propertyNames", "additionalItems", "unevaluatedProperties"}
)  # fmt: skip
_SCHEMA_TEXTS: Final = frozenset(
    {"title", "description", "default", "examples", "example", "enum", "const", "pattern", "required",
     "propertyOrdering", "$comment"}
)  # fmt: skip


def schema_inside(name: str) -> Literal["names", "schema", "text", "skip", "unknown"]:
    """What a member of a JSON Schema holds: schemas by name, a schema, texts, or structure."""
    if name in _NAMED_SCHEMAS:
        return "names"
    if name in _SCHEMAS:
        return "schema"
    if name in _SCHEMA_TEXTS:
        return "text"
    return "skip" if name in _SCHEMA_WORDS else "unknown"
