"""The tables of routes, directives and faults as text: for the command's help and for ui/docs/simulator.md."""

import textwrap
from typing import Final

from trueport.simulator.directives import DIRECTIVES
from trueport.simulator.faults import FAULTS, TIMES, Fault
from trueport.simulator.script import Option

_WIDTH: Final = 100

# Each dialect, how its paths are told, and what it answers there.
DIALECTS: Final = (
    (
        "OpenAI",
        "/v1/…",
        "chat/completions, completions, responses (with /{id}, /cancel, /input_items, /input_tokens), embeddings, "
        "moderations, models, files, batches, images/generations, images/edits, audio/speech, audio/transcriptions, "
        "audio/translations",
    ),
    (
        "Anthropic",
        "/v1/messages…, /anthropic/v1/…",
        "messages, messages/count_tokens, messages/batches (with /{id}, /cancel, /results); models when the request "
        "has an anthropic-version",
    ),
    (
        "Google",
        "/v1beta/…, /v1/models/{model}:…, /v1/projects/…, /google/v1beta/…",
        "generateContent, streamGenerateContent, countTokens, embedContent, batchEmbedContents, at Vertex AI's paths "
        "predict; models",
    ),
    (
        "Azure",
        "/openai/…",
        "deployments/{deployment}/… with an api-version, and v1/… without, for what OpenAI answers",
    ),
    (
        "tokens",
        "/token, /{tenant}/oauth2/v2.0/token",
        "access tokens for Google's service accounts and Entra's clients",
    ),
)


def how_to_write(fault: Fault) -> str:
    """`status=500 retry-after=VALUE`: the fault with its defaults, or what kind of value an option takes."""
    own = next((option for option in fault.options if option.name == fault.name), None)
    others = [option for option in fault.options if option is not own]
    return " ".join([fault.name if own is None else _example(own), *(f"[{_example(option)}]" for option in others)])


def _example(option: Option) -> str:
    if option.choices:
        return f"{option.name}={'|'.join(option.choices)}"
    return f"{option.name}={option.default or ('N' if option.kind == 'count' else 'VALUE')}"


def dialect_table() -> str:
    """The dialects as a Markdown table."""
    rows = [f"| {name} | `{'`, `'.join(paths.split(', '))}` | {answers} |" for name, paths, answers in DIALECTS]
    return "\n".join(["| dialect | paths | what is answered there |", "|---|---|---|", *rows])


def directive_table() -> str:
    """The directives as a Markdown table."""
    rows = [f"| `{row.example}` | {row.summary} |" for row in DIRECTIVES.values()]
    return "\n".join(["| directive | what it does |", "|---|---|", *rows])


def fault_table() -> str:
    """The faults as a Markdown table."""
    rows = [f"| `{_escaped(how_to_write(fault))}` | {fault.summary} |" for fault in FAULTS.values()]
    return "\n".join(["| fault, with its defaults | what happens |", "|---|---|", *rows])


def _escaped(text: str) -> str:
    """A bar inside a table cell needs its backslash, in code too."""
    return text.replace("|", "\\|")


def help_text() -> str:
    """The tables for a terminal."""
    return "\n".join(
        [
            "Dialects, and their paths:",
            *(_entry(f"{name}: {paths}", answers) for name, paths, answers in DIALECTS),
            "",
            "Directives, in any message or prompt:",
            *(_entry(row.example, row.summary) for row in DIRECTIVES.values()),
            "",
            f"Faults, written [[fault: NAME=VALUE OPTION=VALUE]]; every fault takes {TIMES.name}=N:",
            *(_entry(how_to_write(fault), fault.summary) for fault in FAULTS.values()),
        ]
    )


def _entry(how: str, summary: str) -> str:
    return f"  {how}\n" + textwrap.fill(summary, _WIDTH, initial_indent="      ", subsequent_indent="      ")
