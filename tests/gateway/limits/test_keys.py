import re

import pytest

from trueport.gateway.limits.keys import KeyNames, Pepper
from trueport.kit.ids import TenantId

PEPPER = Pepper(b"p" * 32)
TENANT = TenantId("ten_a")
MINUTE = 29_403_690  # 2025-11-27T05:30Z


def test_a_counter_is_named_after_a_digest_and_its_minute_in_utc() -> None:
    names = KeyNames(PEPPER)
    label = names.label(TENANT, "key", "key_1")

    assert re.fullmatch(r"rate_limit:\{kh_[a-z2-7]{26}\}:2025-11-27-05-30", names.requests(label, MINUTE))
    assert names.tokens(label, MINUTE) == names.requests(label, MINUTE) + ":tok"
    assert re.fullmatch(r"conc:\{kh_[a-z2-7]{26}\}", names.calls(label))


def test_tenant_scope_subject_and_pepper_all_change_the_name() -> None:
    others = [
        KeyNames(PEPPER).label(TenantId("ten_b"), "key", "key_1"),
        KeyNames(PEPPER).label(TENANT, "user", "key_1"),
        KeyNames(PEPPER).label(TENANT, "key", "key_2"),
        KeyNames(Pepper(b"q" * 32)).label(TENANT, "key", "key_1"),
        KeyNames(PEPPER).label(TENANT, "key", "key_1"),
    ]

    assert len(set(others)) == 5


def test_a_budgets_period_is_named_after_a_digest() -> None:
    names = KeyNames(PEPPER)
    label = names.budget_label(TENANT, "monthly", "key", "key_1")

    assert re.fullmatch(r"budget:\{kh_[a-z2-7]{26}\}:2026-11", names.purse(label, "2026-11"))
    assert names.holding(label, "2026-11") == names.purse(label, "2026-11") + ":calls"


def test_tenant_name_scope_and_subject_all_change_the_name_of_a_budget() -> None:
    names = KeyNames(PEPPER)
    parts = [
        (TENANT, "a", "user", "b"),
        (TenantId("ten_b"), "a", "user", "b"),
        (TENANT, "b", "user", "b"),
        (TENANT, "a", "key", "b"),
        (TENANT, "a", "user", "a"),
        (TENANT, "a\0b", "user", "c"),
        (TENANT, "a", "user", "b\0c"),
    ]

    assert len({names.budget_label(*one) for one in parts}) == len(parts)


def test_no_id_is_readable_in_a_name() -> None:
    for cluster in (False, True):
        names = KeyNames(PEPPER, cluster=cluster)
        for label in (names.label(TENANT, "key", "key_1"), names.budget_label(TENANT, "key_1", "key", "key_1")):
            assert "ten_a" not in label
            assert "key_1" not in label


def test_on_a_cluster_all_limits_of_a_tenant_share_one_hash_tag() -> None:
    names = KeyNames(PEPPER, cluster=True)
    mine = [names.label(TENANT, "key", "key_1"), names.label(TENANT, "tenant", "ten_a")]
    theirs = names.label(TenantId("ten_b"), "key", "key_1")

    assert len({_hash_tag(names.requests(label, MINUTE)) for label in mine}) == 1
    assert len({_hash_tag(names.calls(label)) for label in mine}) == 1
    monthly = names.budget_label(TENANT, "monthly", "tenant", "ten_a")
    for name in (names.purse, names.holding):
        assert _hash_tag(name(monthly, "2026-11")) == _hash_tag(names.requests(mine[0], MINUTE))
    assert len(set(mine)) == 2
    assert _hash_tag(names.requests(theirs, MINUTE)) != _hash_tag(names.requests(mine[0], MINUTE))


def test_a_short_pepper_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        KeyNames(Pepper(b"short"))


def _hash_tag(key: str) -> str:
    """The part Redis Cluster hashes: between the first { and the first } after it."""
    return key.partition("{")[2].partition("}")[0]
