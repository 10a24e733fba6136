from msgspec.structs import replace

from trueport.gateway.limits.base import Standing, headers, unlimited

STANDING = Standing(60, 59, 43, 1000, 700, 42, "redis")


def test_a_standing_is_told_in_openais_header_names() -> None:
    assert dict(headers(STANDING)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"43",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"700",
        b"x-ratelimit-reset-tokens": b"42",
        b"x-ratelimit-limit": b"60",
        b"x-ratelimit-remaining": b"59",
        b"x-ratelimit-reset": b"43",
    }


def test_a_bound_that_is_off_has_no_headers() -> None:
    names = [name for name, _ in headers(replace(STANDING, limit_tokens=0))]

    assert not [name for name in names if name.endswith(b"tokens")]
    assert headers(unlimited("redis")) == []


def test_what_the_tightest_budget_has_left_is_told_in_dollars() -> None:
    told = dict(headers(replace(STANDING, budget_left_nano_usd=12_340_000_001)))

    assert told[b"x-trueport-budget-remaining-usd"] == b"12.340000001"
    assert b"x-trueport-budget-remaining-usd" not in dict(headers(STANDING))
    assert headers(replace(unlimited("redis"), budget_left_nano_usd=0)) == [
        (b"x-trueport-budget-remaining-usd", b"0.000000000")
    ]


def test_only_a_share_counted_here_because_redis_is_away_is_marked() -> None:
    assert (b"x-ratelimit-mode", b"local") in headers(replace(STANDING, mode="local"))
    for mode in ("redis", "memory", "open"):
        assert b"x-ratelimit-mode" not in dict(headers(replace(STANDING, mode=mode)))
