"""Counters of the data plane. Children are looked up once and kept: `labels()` costs more than counting."""

from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from trueport.gateway.breaker.base import Health
from trueport.gateway.breaker.retries import RetryBudget
from trueport.gateway.call import End, Judgement, Outcome

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class GatewayMetrics:
    """Labels come from closed sets (dialect, end, status class, kind): never a model, key or tenant."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._calls = Counter(
            "trueport_calls", "Calls through the gateway", ["dialect", "end", "status"], registry=registry
        )
        self._tokens = Counter("trueport_tokens", "Tokens metered", ["kind", "source"], registry=registry)
        self._cost = Counter("trueport_cost_usd", "Cost metered, in dollars", registry=registry)
        self._unpriced = Counter("trueport_unpriced_calls", "Calls whose model has no price", registry=registry)
        self._seconds = Histogram(
            "trueport_call_seconds", "Time from request to last byte", ["dialect"], buckets=_SECONDS, registry=registry
        )
        self._first_byte = Histogram(
            "trueport_first_byte_seconds", "Time to the provider's first byte", buckets=_SECONDS, registry=registry
        )
        self.in_flight = Gauge(
            "trueport_calls_in_flight", "Calls under way", registry=registry, multiprocess_mode="livesum"
        )
        self.rejected_keys = Counter("trueport_rejected_keys", "Calls without a valid API key", registry=registry)
        self.journal_bytes = Gauge(
            "trueport_journal_bytes", "Journal not yet shipped", registry=registry, multiprocess_mode="livesum"
        )
        self.journal_filled = Gauge(
            "trueport_journal_filled", "Share of the journal's room taken or promised; calls are refused from 0.85 on",
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.journal_sync_seconds = Gauge(
            "trueport_journal_sync_seconds", "The last group sync", registry=registry, multiprocess_mode="livemax"
        )
        self.journal_is_behind = Gauge(
            "trueport_journal_is_behind", "1 while the database does not take records", registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.circuits_open = Gauge(
            "trueport_circuits_open", "Circuits this process knows to be open", registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        # These count in the breaker and the retry budget; the gauges show how far they have come.
        self.circuit_denials = Gauge(
            "trueport_circuit_denials", "Attempts an open circuit did not allow", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.circuit_probes = Gauge(
            "trueport_circuit_probes", "Attempts made to see whether a provider is back", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.circuit_openings = Gauge(
            "trueport_circuit_openings", "Circuits this process has opened", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.further_attempts = Gauge(
            "trueport_further_attempts", "Attempts after a call's first, by what the retry budget said", ["verdict"],
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self._decisions = Counter(
            "trueport_decisions", "What policies decided about texts, by what they found",
            ["side", "action", "mode", "category"], registry=registry,
        )  # fmt: skip
        self._detector_failures = Counter(
            "trueport_detector_failures", "Readings that a detector owed", ["side", "detector", "code"],
            registry=registry,
        )  # fmt: skip
        self._inspection = Histogram(
            "trueport_inspection_seconds", "Time policies took over one side of a call", ["side"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.scans = Counter(
            "trueport_scans", "Readings of recorded content after the call", ["result"], registry=registry
        )
        self.scan_violations = Counter("trueport_scan_violations", "Violations found after the call", registry=registry)
        # Every process sees the same queue.
        self.scans_waiting = Gauge(
            "trueport_scans_waiting", "Calls whose content is still to be read", registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.scans_oldest_seconds = Gauge(
            "trueport_scans_oldest_seconds", "How long the oldest of them has waited", registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self._held = Histogram(
            "trueport_held_seconds", "The longest that policies held back a part of an answer that was there",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._call_children: dict[tuple[str, End, int], Counter] = {}
        self._token_children: dict[tuple[str, str], Counter] = {}
        self._second_children: dict[str, Histogram] = {}

    def show_circuits(self, health: Health, retries: RetryBudget) -> None:
        """Take over how far breakers and retry budget have counted."""
        self.circuits_open.set(len(health.resting))
        self.circuit_denials.set(health.denied)
        self.circuit_probes.set(health.probes)
        self.circuit_openings.set(health.opened)
        self.further_attempts.labels("allowed").set(retries.allowed)
        self.further_attempts.labels("refused").set(retries.refused)

    def count(self, dialect: str, outcome: Outcome, took_us: int) -> None:
        """Count one closed call."""
        key = (dialect, outcome.end, outcome.status // 100)
        child = self._call_children.get(key)
        if child is None:
            child = self._call_children[key] = self._calls.labels(dialect, outcome.end, f"{outcome.status // 100}xx")
        child.inc()
        timer = self._second_children.get(dialect)
        if timer is None:
            timer = self._second_children[dialect] = self._seconds.labels(dialect)
        timer.observe(took_us / 1e6)
        if outcome.first_byte_us is not None:
            self._first_byte.observe(outcome.first_byte_us / 1e6)
        for judgement in outcome.judgements:
            self._count_judgement(judgement)
        if any(judgement.side == "output" for judgement in outcome.judgements):
            self._held.observe(outcome.held_ms / 1_000)
        if outcome.usage is not None:
            self._count_tokens("input", outcome.usage_source, outcome.usage.input_tokens)
            self._count_tokens("output", outcome.usage_source, outcome.usage.output_tokens)
            if outcome.cost_nano_usd is None:
                self._unpriced.inc()
            else:
                self._cost.inc(outcome.cost_nano_usd / 1e9)

    def _count_judgement(self, judgement: Judgement) -> None:
        self._inspection.labels(judgement.side).observe(judgement.took_us / 1e6)
        for hit in judgement.hits:
            self._decisions.labels(judgement.side, hit.action, hit.mode, hit.category).inc()
        for failure in judgement.failures:
            self._detector_failures.labels(judgement.side, failure.detector, failure.code).inc()

    def _count_tokens(self, kind: str, source: str, tokens: int) -> None:
        child = self._token_children.get((kind, source))
        if child is None:
            child = self._token_children[kind, source] = self._tokens.labels(kind, source)
        child.inc(tokens)
