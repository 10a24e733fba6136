"""A deterministic provider that speaks the dialects of OpenAI, Anthropic, Google and Azure, keeps books, and
misbehaves when asked.

The demo calls it, and tests and benchmarks put it behind the gateway. It is written as a bare asyncio protocol
for two reasons: it must cost next to nothing when it is the far end of a benchmark, and its faults reach down to
single bytes and TCP resets, which no HTTP framework lets through.
"""

from trueport.simulator.ledger import Entry, Ledger, Totals
from trueport.simulator.script import DirectiveError
from trueport.simulator.server import Simulator

__all__ = ["DirectiveError", "Entry", "Ledger", "Simulator", "Totals"]
