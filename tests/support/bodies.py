"""Requests and answers of every wire with everything in them that can hold a text; for tests of who reads what."""

import base64
import json
from typing import Any, Final

Body = dict[str, Any]

PICTURE: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256))).decode()
NOTES: Final = base64.b64encode(b"notes of a meeting").decode()
SCHEMA: Final[Body] = {
    "type": "object",
    "description": "what it takes",
    "properties": {"city": {"type": "string", "description": "a place", "enum": ["here", "there"]}},
    "required": ["city"],
    "additionalProperties": False,
}
LOGPROBS: Final[list[Body]] = [
    {
        "token": "warm",
        "logprob": -0.1,
        "bytes": [119],
        "top_logprobs": [{"token": "cold", "logprob": -2.0, "bytes": [99]}],
    },
    {"token": " day", "logprob": -0.1, "bytes": [32], "top_logprobs": []},
]

REQUESTS: Final[dict[str, tuple[str, Body]]] = {
    "chat": (
        "openai",
        {
            "model": "gpt-4o",
            "temperature": 1.50,
            "messages": [
                {"role": "system", "content": "be brief", "name": "host"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look at these"},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{PICTURE}", "detail": "low"},
                        },
                        {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}},
                        {"type": "input_audio", "input_audio": {"data": PICTURE, "format": "wav"}},
                        {
                            "type": "file",
                            "file": {"filename": "notes.txt", "file_data": f"data:text/plain;base64,{NOTES}"},
                        },
                        {"type": "file", "file": {"file_id": "file-abc"}},
                        {"type": "brand_new", "payload": {"inner": "unheard of"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "refusal": "not this",
                    "reasoning_content": "let me see",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": json.dumps({"city": "Paris", "n": [1]})},
                        },
                        {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "list files"}},
                    ],
                    "function_call": {"name": "old", "arguments": "not json"},
                },
                {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"found": ["rain", {"k": "wind"}]})},
                {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "two files"}]},
                {"role": "function", "name": "old", "content": "plain result"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "weather", "description": "tells", "parameters": SCHEMA}}
            ],
            "functions": [{"name": "old", "description": "older", "parameters": SCHEMA}],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA}},
            "prediction": {"type": "content", "content": "it will be this"},
            "stop": ["halt here"],
            "user": "user-1",
            "metadata": {"project": "secret one"},
            "prompt_cache_key": "key one",
            "safety_identifier": "who one",
            "logit_bias": {"50256": -100},
            "audio": {"voice": "alloy", "format": "wav"},
            "web_search_options": {"user_location": {"approximate": {"city": "Oslo town"}}},
            "never_heard_of": {"deep": [{"er": "hidden text"}]},
        },
    ),
    "completions": (
        "openai",
        {"model": "gpt-3.5", "prompt": ["one prompt", "two"], "suffix": "the end", "stop": "x y"},
    ),
    "responses": (
        "openai",
        {
            "model": "gpt-4o",
            "instructions": "be kind",
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"format": {"type": "json_schema", "name": "out", "schema": SCHEMA}, "verbosity": "low"},
            "prompt": {"id": "pmpt_1", "version": "2", "variables": {"name": "Ada L"}},
            "metadata": {"k": "v w"},
            "input": [
                {"type": "message", "role": "user", "content": "a plain turn"},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "a listed turn"},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}", "detail": "auto"},
                        {"type": "input_image", "file_id": "file-1"},
                        {"type": "input_file", "filename": "a.csv", "file_data": f"data:text/csv;base64,{NOTES}"},
                        {"type": "input_file", "file_url": "https://files.example/a"},
                        {"type": "input_audio", "input_audio": {"data": PICTURE, "format": "mp3"}},
                    ],
                },
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": "a summary"}],
                    "content": [{"type": "reasoning_text", "text": "the thought"}],
                    "encrypted_content": "gAAAAAB" + "x" * 60,
                },
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": json.dumps({"a": "b c"})},
                {"type": "function_call_output", "call_id": "c1", "output": json.dumps({"r": "s t"})},
                {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "do this"},
                {"type": "custom_tool_call_output", "call_id": "c2", "output": "did that"},
                {
                    "type": "mcp_call",
                    "id": "m1",
                    "name": "h",
                    "arguments": "{}",
                    "output": "mcp said",
                    "server_label": "s",
                },
                {"type": "web_search_call", "id": "w1", "status": "completed", "action": {"query": "find me"}},
                {
                    "type": "code_interpreter_call",
                    "id": "i1",
                    "code": "print(1)",
                    "outputs": [{"type": "logs", "logs": "1 2"}],
                },
                {
                    "type": "file_search_call",
                    "id": "f1",
                    "queries": ["where is"],
                    "results": [{"text": "it is", "filename": "f g"}],
                },
                {"type": "image_generation_call", "id": "g1", "result": PICTURE},
            ],
            "tools": [
                {"type": "function", "name": "f", "description": "does f", "parameters": SCHEMA},
                {"type": "mcp", "server_label": "s", "server_url": "https://mcp.example/x", "headers": {"x": "y z"}},
                {"type": "custom", "name": "g", "format": {"type": "grammar", "definition": "start: rule"}},
            ],
        },
    ),
    "embeddings": (
        "openai",
        {"model": "text-embedding-3-small", "input": ["embed me", "and me"], "encoding_format": "float"},
    ),
    "images": ("openai", {"model": "dall-e-3", "prompt": "a red cat", "size": "1024x1024", "user": "u 1"}),
    "speech": ("openai", {"model": "tts-1", "input": "say this", "voice": "alloy", "instructions": "with joy"}),
    "moderations": (
        "openai",
        {
            "input": [
                {"type": "text", "text": "is it bad"},
                {"type": "image_url", "image_url": {"url": "https://x.example/y"}},
            ]
        },
    ),
    "batches": ("openai", {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "metadata": {"a": "b c"}}),
    "messages": (
        "anthropic",
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 10,
            "system": [{"type": "text", "text": "be good", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "a first turn"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "signed thought", "signature": "EqQB" + "x" * 40},
                        {"type": "redacted_thinking", "data": "EmwK" + "x" * 40},
                        {
                            "type": "text",
                            "text": "an answer",
                            "citations": [
                                {"type": "char_location", "cited_text": "they said", "document_title": "a book"}
                            ],
                        },
                        {
                            "type": "tool_use",
                            "id": "tu_1",
                            "name": "weather",
                            "input": {"city": "Rome now", "n": 12345678901},
                        },
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "tu_1",
                            "content": [{"type": "text", "text": "it rains"}],
                        },
                        {"type": "tool_result", "tool_use_id": "tu_2", "content": "plain words"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
                        {"type": "image", "source": {"type": "url", "url": "https://x.example/cat"}},
                        {
                            "type": "document",
                            "title": "a title",
                            "context": "a context",
                            "source": {"type": "text", "media_type": "text/plain", "data": "document text"},
                        },
                        {
                            "type": "document",
                            "source": {"type": "content", "content": [{"type": "text", "text": "inner text"}]},
                        },
                        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
                        {
                            "type": "search_result",
                            "source": "https://s.example/1",
                            "title": "found it",
                            "content": [{"type": "text", "text": "says so"}],
                        },
                    ],
                },
            ],
            "tools": [
                {"name": "weather", "description": "tells it", "input_schema": SCHEMA},
                {
                    "type": "web_search_20250305",
                    "name": "web_search",
                    "user_location": {"type": "approximate", "city": "Bergen by"},
                },
            ],
            "tool_choice": {"type": "tool", "name": "weather"},
            "metadata": {"user_id": "user one"},
            "stop_sequences": ["stop here"],
            "mcp_servers": [{"type": "url", "url": "https://mcp.example/s", "name": "the server"}],
        },
    ),
    "message batches": (
        "anthropic",
        {
            "requests": [
                {
                    "custom_id": "first one",
                    "params": {
                        "model": "claude-x",
                        "system": "be nice",
                        "messages": [{"role": "user", "content": "in a batch"}],
                    },
                }
            ]
        },
    ),
    "complete": ("anthropic", {"model": "claude-2", "prompt": "Human: hi there", "max_tokens_to_sample": 5}),
    "generate": (
        "google",
        {
            "systemInstruction": {"parts": [{"text": "be short"}]},
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"text": "a google turn"},
                        {"inlineData": {"mimeType": "image/png", "data": PICTURE}},
                        {"inline_data": {"mime_type": "text/csv", "data": NOTES}},
                        {"fileData": {"fileUri": "https://f.example/v", "mimeType": "video/mp4"}},
                    ],
                },
                {
                    "role": "model",
                    "parts": [
                        {"text": "thinking it", "thought": True},
                        {"text": "said it", "thoughtSignature": "CoAB" + "x" * 40},
                        {"functionCall": {"name": "f", "args": {"a": "b c"}}},
                        {"executableCode": {"language": "PYTHON", "code": "print(2)"}},
                        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2 lines"}},
                    ],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "came back"}}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "f", "description": "does it", "parameters": SCHEMA}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {
                "temperature": 1.0,
                "stopSequences": ["no more"],
                "responseMimeType": "application/json",
                "responseSchema": SCHEMA,
            },
            "safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"}],
            "labels": {"team": "the blue"},
        },
    ),
    "embed": (
        "google",
        {"content": {"parts": [{"text": "embed this"}]}, "taskType": "RETRIEVAL_QUERY", "title": "a doc"},
    ),
    "batch embed": ("google", {"requests": [{"model": "models/e", "content": {"parts": [{"text": "embed that"}]}}]}),
    "predict": ("google", {"instances": [{"prompt": "a blue dog"}], "parameters": {"negativePrompt": "no cats"}}),
}

ANSWERS: Final[dict[str, tuple[str, Any]]] = {
    "chat": (
        "openai",
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "gpt-4o",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "a warm day",
                        "refusal": "nor that",
                        "reasoning_content": "so warm",
                        "annotations": [
                            {
                                "type": "url_citation",
                                "url_citation": {"url": "https://w.example/a", "title": "the web", "start_index": 0},
                            }
                        ],
                        "audio": {"id": "a1", "data": PICTURE, "transcript": "spoken words"},
                        "tool_calls": [
                            {
                                "id": "c1",
                                "type": "function",
                                "function": {"name": "f", "arguments": json.dumps({"to": "bob x"})},
                            }
                        ],
                    },
                    "logprobs": {"content": LOGPROBS, "refusal": None},
                    "finish_reason": "stop",
                },
                {"index": 1, "message": {"role": "assistant", "content": "another choice"}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
            "vendor_extra": {"note": "from the vendor"},
        },
    ),
    "completions": (
        "openai",
        {
            "object": "text_completion",
            "choices": [
                {
                    "index": 0,
                    "text": "legacy words",
                    "logprobs": {
                        "tokens": ["legacy", " words"],
                        "token_logprobs": [-1.0, -2.0],
                        "top_logprobs": [{"other one": -3.0}],
                        "text_offset": [0, 6],
                    },
                }
            ],
        },
    ),
    "responses": (
        "openai",
        {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "instructions": "echoed rule",
            "output": [
                {
                    "type": "reasoning",
                    "id": "rs",
                    "summary": [{"type": "summary_text", "text": "in short"}],
                    "encrypted_content": "gAAA" + "y" * 50,
                },
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "the reply",
                            "annotations": [
                                {"type": "file_citation", "file_id": "f1", "filename": "a file", "quote": "as said"}
                            ],
                            "logprobs": LOGPROBS,
                        },
                        {"type": "refusal", "refusal": "will not"},
                    ],
                },
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps({"q": "r s"})},
            ],
            "error": None,
        },
    ),
    "images": (
        "openai",
        {
            "created": 1,
            "data": [{"b64_json": PICTURE, "revised_prompt": "a better cat"}, {"url": "https://i.example/1"}],
        },
    ),
    "transcription": (
        "openai",
        {
            "text": "all was said",
            "language": "en",
            "segments": [{"id": 0, "text": "all was", "tokens": [1, 2]}],
            "words": [{"word": "all of", "start": 0.0}],
        },
    ),
    "embeddings": (
        "openai",
        {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}], "model": "e"},
    ),
    "error": (
        "openai",
        {"error": {"message": "it quoted you", "type": "invalid_request_error", "param": "messages", "code": None}},
    ),
    "message": (
        "anthropic",
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [
                {"type": "thinking", "thinking": "hm well", "signature": "EqQB" + "z" * 40},
                {
                    "type": "text",
                    "text": "a reply",
                    "citations": [
                        {
                            "type": "web_search_result_location",
                            "url": "https://c.example/1",
                            "title": "a page",
                            "cited_text": "as cited",
                            "encrypted_index": "Eo8B" + "q" * 30,
                        }
                    ],
                },
                {"type": "tool_use", "id": "tu", "name": "f", "input": {"who": "eve y"}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s1",
                    "content": [
                        {
                            "type": "web_search_result",
                            "url": "https://r.example/1",
                            "title": "result one",
                            "encrypted_content": "EqgB" + "w" * 30,
                            "page_age": "1d",
                        }
                    ],
                },
            ],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 2},
        },
    ),
    "generate": (
        "google",
        {
            "candidates": [
                {
                    "content": {
                        "role": "model",
                        "parts": [
                            {"text": "thought of", "thought": True},
                            {"text": "google said"},
                            {"functionCall": {"name": "f", "args": {"x": "y z"}}},
                            {"inlineData": {"mimeType": "image/png", "data": PICTURE}},
                        ],
                    },
                    "finishReason": "STOP",
                    "finishMessage": "all done",
                    "index": 0,
                    "citationMetadata": {"citationSources": [{"uri": "https://g.example/1", "license": "some rights"}]},
                    "groundingMetadata": {
                        "webSearchQueries": ["a query"],
                        "groundingChunks": [{"web": {"uri": "https://g.example/2", "title": "a site"}}],
                        "groundingSupports": [{"segment": {"text": "a segment"}}],
                    },
                    "logprobsResult": {
                        "chosenCandidates": [{"token": "google", "logProbability": -0.1}],
                        "topCandidates": [{"candidates": [{"token": "other", "logProbability": -1.0}]}],
                    },
                },
                {"content": {"parts": [{"text": "second candidate"}]}, "index": 1},
            ],
            "usageMetadata": {"promptTokenCount": 1},
            "modelVersion": "gemini-2.5",
        },
    ),
    "google array": (
        "google",
        [
            {"candidates": [{"content": {"parts": [{"text": "first half"}]}}]},
            {"candidates": [{"content": {"parts": [{"text": "second half"}]}}]},
        ],
    ),
}
