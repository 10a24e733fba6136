"""How much a model may think, in words and in tokens."""

from typing import Final

from trueport.gateway.translate.model import Reasoning

# Google's own table for OpenAI's efforts (https://ai.google.dev/gemini-api/docs/openai, "Thinking"); a budget of
# Anthropic's is at least 1,024 tokens, so the same numbers serve there.
_BUDGETS: Final = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
_HIGHER: Final = ("xhigh", "max")


def effort_of(reasoning: Reasoning) -> str | None:
    """The effort in the neutral form's words, from the budget where only that is said; None when nothing is said."""
    if reasoning.effort is not None:
        return "high" if reasoning.effort in _HIGHER else reasoning.effort
    if reasoning.budget_tokens is None:
        return None
    if reasoning.budget_tokens == 0:
        return "none"
    if reasoning.budget_tokens <= _BUDGETS["low"]:
        return "low"
    return "medium" if reasoning.budget_tokens <= _BUDGETS["medium"] else "high"


def budget_of(reasoning: Reasoning) -> int | None:
    """The budget in tokens, from the effort where only that is said: 0 for none, None when nothing is said."""
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    effort = effort_of(reasoning)
    if effort is None:
        return None
    return 0 if effort == "none" else _BUDGETS.get(effort, _BUDGETS["medium"])
