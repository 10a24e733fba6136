"""Which targets serve which request."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from yarl import URL

from trueport.gateway.call import Wire
from trueport.gateway.routing import ModelNotServed, allowed_region, order_targets, resolved, route_for
from trueport.gateway.snapshot import Credential, ModelPattern, Route, Target, TenantLimits, TenantSnapshot
from trueport.kit.ids import CredentialId, TenantId

WIRE_OF: dict[str, Wire] = {
    "openai": "openai",
    "openai_compatible": "openai",
    "azure": "openai",
    "anthropic": "anthropic",
}


def credential(name: str, provider: str = "openai", region: str | None = None) -> Credential:
    url = URL(f"https://{name}.example.com/v1")
    return Credential(CredentialId(f"crd_{name}"), name, provider, url, None, region)


MAIN, SPARE, OTHER = credential("main"), credential("spare", "openai_compatible"), credential("other", "anthropic")


def snapshot(*routes: Route, credentials: tuple[Credential, ...] = (MAIN, SPARE, OTHER)) -> TenantSnapshot:
    named: Mapping[str, Credential] = {found.name: found for found in credentials}
    return TenantSnapshot(TenantId("ten_1"), "acme", 1, routes, named, TenantLimits())


def targets(
    where: TenantSnapshot,
    model: str | None,
    *,
    dialect: str = "openai",
    wires: tuple[Wire, ...] = ("openai",),
    account: str | None = None,
) -> tuple[Target, ...]:
    return route_for(where, dialect, model, wire_of=WIRE_OF, wires=wires, account=account).targets


def chosen(where: TenantSnapshot, model: str | None, **options: Any) -> list[str]:
    return [target.id for target in targets(where, model, **options)]


def test_the_first_route_that_matches_counts_with_its_targets_in_order() -> None:
    where = snapshot(
        Route((Target(MAIN), Target(SPARE, model="llama")), "gpt-4*"),
        Route((Target(SPARE),), "gpt-*"),
    )

    assert chosen(where, "gpt-4o") == ["main/*", "spare/llama"]
    assert chosen(where, "gpt-3") == ["spare/*"]


@pytest.mark.parametrize("model", ["GPT-4o", "xgpt-4o", "", "gpt-3", "gpt-4o\n"])
def test_a_model_no_route_matches_is_not_served(model: str) -> None:
    where = snapshot(Route((Target(MAIN),), "gpt-4[o]"))

    with pytest.raises(ModelNotServed):
        chosen(where, model)


def test_a_route_for_another_dialect_serves_nobody_else() -> None:
    where = snapshot(Route((Target(MAIN),), None, "anthropic"), credentials=(MAIN,))

    assert chosen(where, "any") == ["main/*"]  # by the only credential, as if there were no route
    assert chosen(where, "any", dialect="anthropic", wires=("anthropic", "openai")) == ["main/*"]


def test_targets_at_providers_of_another_dialect_are_left_out() -> None:
    assert chosen(snapshot(Route((Target(OTHER), Target(MAIN)), "gpt-*")), "gpt-4") == ["main/*"]

    with pytest.raises(ModelNotServed, match="leads to no provider"):
        chosen(snapshot(Route((Target(OTHER),), "gpt-*")), "gpt-4")


@pytest.mark.parametrize("model", ["any", None])
def test_without_a_route_the_only_fitting_credential_serves(model: str | None) -> None:
    assert chosen(snapshot(credentials=(SPARE, OTHER)), model) == ["spare/*"]


@pytest.mark.parametrize("model", ["any", None])
def test_without_a_route_nothing_is_guessed_among_several_and_none(model: str | None) -> None:
    with pytest.raises(ModelNotServed, match="Several"):
        chosen(snapshot(), model)
    with pytest.raises(ModelNotServed, match="No provider credential"):
        chosen(snapshot(credentials=(OTHER,)), model)


def test_a_request_that_names_no_model_goes_to_the_only_account_although_routes_name_models() -> None:
    where = snapshot(Route((Target(MAIN, model="gpt-4o"),), "fast-*"), credentials=(MAIN, OTHER))

    assert chosen(where, None) == ["main/*"]
    with pytest.raises(ModelNotServed):
        chosen(where, "slow")


def test_among_several_accounts_it_goes_to_the_first_that_a_route_of_its_dialect_names() -> None:
    where = snapshot(
        Route((Target(MAIN),), "claude-*", "anthropic"),
        Route((Target(OTHER), Target(SPARE, model="llama", timeout_s=3)), "fast-*"),
        Route((Target(MAIN),), "gpt-*"),
    )

    (target,) = targets(where, None)
    assert (target.id, target.timeout_s) == ("spare/*", 3)


def test_a_route_without_a_model_takes_requests_that_name_none() -> None:
    where = snapshot(Route((Target(SPARE),), "gpt-*"), Route((Target(MAIN),)))

    assert chosen(where, None) == ["main/*"]


@pytest.mark.parametrize(
    ("glob", "fits", "fails"),
    [
        ("gpt-*", ["gpt-", "gpt-4o", "gpt-a/b"], ["gpt", "GPT-4", "a-gpt-4"]),
        ("o?-mini", ["o1-mini"], ["o10-mini", "o-mini"]),
        ("ft:[ab]*", ["ft:ax"], ["ft:cx"]),
        ("a.b+c", ["a.b+c"], ["axb+c", "a.bbc"]),
        ("*", ["", "x\ny"], []),
    ],
)
def test_patterns_are_globs_over_the_whole_name(glob: str, fits: list[str], fails: list[str]) -> None:
    pattern = ModelPattern.of(glob)

    assert [model for model in fits if not pattern.matches(model)] == []
    assert [model for model in fails if pattern.matches(model)] == []


def test_a_request_that_can_be_translated_is_served_by_targets_of_other_wires() -> None:
    where = snapshot(Route((Target(OTHER, model="claude"), Target(MAIN)), "gpt-*"))

    assert chosen(where, "gpt-4", wires=("openai", "anthropic")) == ["other/claude", "main/*"]
    assert chosen(where, "gpt-4", wires=("openai",)) == ["main/*"]


def test_the_account_in_a_path_picks_among_several_by_name_or_by_host() -> None:
    one, two = credential("east", "azure"), credential("west", "azure")
    where = snapshot(credentials=(one, replace(two, base_url=URL("https://acme-west.openai.azure.com"))))

    assert chosen(where, None, dialect="azure", account="east") == ["east/*"]
    assert chosen(where, None, dialect="azure", account="acme-west") == ["west/*"]
    with pytest.raises(ModelNotServed, match="Several"):
        chosen(where, None, dialect="azure", account="north")


def test_a_dialect_without_a_provider_of_its_own_uses_the_only_one_of_its_wire() -> None:
    where = snapshot(credentials=(credential("east", "azure"),))

    assert chosen(where, "gpt-4o") == ["east/*"]


def test_an_alias_stands_for_its_model_and_other_names_for_themselves() -> None:
    where = replace(snapshot(), aliases={"fast": "gpt-4o-mini"})

    assert [resolved(where, name) for name in ("fast", "gpt-4o", None)] == ["gpt-4o-mini", "gpt-4o", None]


def test_a_tenant_that_names_regions_uses_no_other_and_none_unknown() -> None:
    inside, outside, unknown = (Target(credential(name, region=name)) for name in ("eu", "us", "x"))
    where = replace(snapshot(), regions=frozenset({"eu"}))

    assert [allowed_region(where, target) for target in (inside, outside, unknown, Target(MAIN))] == [
        True,
        False,
        False,
        False,
    ]
    assert allowed_region(snapshot(), Target(MAIN))


A, B, C = (Target(credential(name)) for name in "abc")


def order(
    *given: Target, resting: tuple[Target, ...] = (), draws: tuple[float, ...] = (0.0,) * 9, **known: float
) -> str:
    drawn = iter(draws)
    latency = {f"{name}/*": value for name, value in known.items()}
    found = order_targets(given, {target.id for target in resting}, latency, lambda: next(drawn))
    return "".join(target.credential.name for target in found)


def test_lower_priorities_come_first_wherever_they_stand() -> None:
    assert order(replace(A, priority=2), replace(B, priority=1), replace(C, priority=3)) == "bac"


def test_equal_priorities_are_drawn_by_weight_without_replacement() -> None:
    light, heavy, middle = replace(A, weight=1), replace(B, weight=7), replace(C, weight=2)

    assert order(light, heavy, middle, draws=(0.05, 0.0)) == "abc"
    assert order(light, heavy, middle, draws=(0.5, 0.0)) == "bac"
    assert order(light, heavy, middle, draws=(0.5, 0.9)) == "bca"
    assert order(light, heavy, middle, draws=(0.95, 0.99)) == "cba"


def test_many_draws_share_calls_as_the_weights_say() -> None:
    random = Random(7)
    firsts = [order(replace(A, weight=1), replace(B, weight=3), draws=(random.random(),))[0] for _ in range(4_000)]

    assert 0.22 < firsts.count("a") / len(firsts) < 0.28


def test_targets_chosen_by_latency_come_fastest_first_and_the_unmeasured_before_them() -> None:
    peers = [replace(target, by_latency=True) for target in (A, B, C)]

    assert order(*peers, a=300.0, b=100.0, c=200.0) == "bca"
    assert order(*peers, a=300.0, b=100.0) == "cba"


def test_resting_targets_go_last_and_none_is_lost() -> None:
    ranked = [replace(target, priority=number) for number, target in enumerate((A, B, C))]

    assert order(*ranked, resting=(A,)) == "bca"
    assert order(*ranked, resting=(A, B)) == "cab"
    assert order(*ranked, resting=(A, B, C)) == "abc"
