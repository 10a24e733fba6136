"""The tables of directives and faults as text: for the command's help and for ui/docs/simulator.md."""

import textwrap
from typing import Final

from trueport.simulator.directives import DIRECTIVES
from trueport.simulator.faults import FAULTS, TIMES, Fault
from trueport.simulator.script import Option

_WIDTH: Final = 100


def how_to_write(fault: Fault) -> str:
    """`status=500 retry-after=VALUE`: the fault with its defaults, or what kind of value an option takes."""
    own = next((option for option in fault.options if option.name == fault.name), None)
    others = [option for option in fault.options if option is not own]
    return " ".join([fault.name if own is None else _example(own), *(f"[{_example(option)}]" for option in others)])


def _example(option: Option) -> str:
    if option.choices:
        return f"{option.name}={'|'.join(option.choices)}"
    return f"{option.name}={option.default or ('N' if option.kind == 'count' else 'VALUE')}"


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
    """Both tables for a terminal."""
    return "\n".join(
        [
            "Directives, in any message or prompt:",
            *(_entry(row.example, row.summary) for row in DIRECTIVES.values()),
            "",
            f"Faults, written [[fault: NAME=VALUE OPTION=VALUE]]; every fault takes {TIMES.name}=N:",
            *(_entry(how_to_write(fault), fault.summary) for fault in FAULTS.values()),
        ]
    )


def _entry(how: str, summary: str) -> str:
    return f"  {how}\n" + textwrap.fill(summary, _WIDTH, initial_indent="      ", subsequent_indent="      ")
