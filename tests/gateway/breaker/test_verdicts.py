import pytest

from trueport.gateway.breaker.base import Outcome, Permit, Verdict, verdict_of


@pytest.mark.parametrize(
    ("status", "failure_counts", "verdict"),
    [
        (200, False, "ok"),
        (204, False, "ok"),
        (200, True, "fail"),  # began well, then stalled or broke off
        (None, True, "fail"),
        (None, False, "void"),
        *((status, counts, "fail") for status in (500, 502, 503, 504, 529) for counts in (True, False)),
        *((status, counts, "alive") for status in (400, 401, 403, 404, 408, 422) for counts in (True, False)),
        (429, True, "void"),
        (429, False, "void"),
        (501, True, "void"),
        (520, True, "void"),
        (302, True, "void"),
        (302, False, "void"),
    ],
)
def test_the_verdict_on_an_attempt(status: int | None, failure_counts: bool, verdict: Verdict) -> None:
    assert verdict_of(status, failure_counts) == verdict


@pytest.mark.parametrize(
    ("verdict", "ordinary", "probing"),
    [("ok", "ok", "ok"), ("fail", "fail", "fail"), ("void", "void", "void"), ("alive", "void", "ok")],
)
def test_that_somebody_answers_is_good_news_only_from_a_probe(
    verdict: Verdict, ordinary: Outcome, probing: Outcome
) -> None:
    assert Permit("openai", "pass").outcome(verdict) == ordinary
    assert Permit("openai", "probe").outcome(verdict) == probing
