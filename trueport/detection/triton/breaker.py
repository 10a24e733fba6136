"""Leaves a server alone for a while once it keeps failing, so that callers need not wait for what will not come."""

from dataclasses import dataclass, field

from trueport.kit.clock import Clock


@dataclass(slots=True)
class Breaker:
    """Closed until `failures_to_open` in a row; then open for `rest_s`; then one probe decides.

    Used from one event loop. Whoever was let through says how it ended with `succeeded`, `failed` or `abandoned`.
    """

    clock: Clock
    failures_to_open: int = 5
    rest_s: float = 2.0
    _in_a_row: int = field(default=0, init=False)
    _rests_until_s: float = field(default=0.0, init=False)
    _is_probing: bool = field(default=False, init=False)

    def lets_through(self) -> bool:
        """Whether to ask now. While it is open, the first to ask after the rest is the only one let through."""
        if self._in_a_row < self.failures_to_open:
            return True
        if self._is_probing or self.clock.monotonic() < self._rests_until_s:
            return False
        self._is_probing = True
        return True

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._is_probing = False

    def failed(self) -> None:
        self._in_a_row += 1
        self._is_probing = False
        self._rests_until_s = self.clock.monotonic() + self.rest_s

    def abandoned(self) -> None:
        """The caller left before an answer came: that says nothing of the server."""
        self._is_probing = False
