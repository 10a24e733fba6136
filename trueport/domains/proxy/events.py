"""What happens on the path of calls that others want to hear of."""

from dataclasses import dataclass

from trueport.gateway.limits.base import BudgetAlert
from trueport.kit.events import Event


@dataclass(frozen=True, slots=True)
class BudgetShareReached(Event):
    """A share of a budget at which its tenant wants to be told has been spent."""

    alert: BudgetAlert
