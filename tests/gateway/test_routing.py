"""Which targets serve which request."""

from collections.abc import Mapping

import pytest
from yarl import URL

from trueport.gateway.routing import ModelNotServed, targets_for
from trueport.gateway.snapshot import Credential, ModelPattern, Route, Target, TenantLimits, TenantSnapshot
from trueport.kit.crypto import DataKey
from trueport.kit.ids import CredentialId, TenantId

SPOKEN = frozenset({"openai", "openai_compatible"})


def credential(name: str, provider: str = "openai") -> Credential:
    return Credential(CredentialId(f"crd_{name}"), name, provider, URL("https://example.com/v1"), None)


MAIN, SPARE, OTHER = credential("main"), credential("spare", "openai_compatible"), credential("other", "anthropic")


def snapshot(*routes: Route, credentials: tuple[Credential, ...] = (MAIN, SPARE, OTHER)) -> TenantSnapshot:
    named: Mapping[str, Credential] = {found.name: found for found in credentials}
    return TenantSnapshot(TenantId("ten_1"), "acme", 1, routes, named, TenantLimits(), DataKey.generate("ten_1/1"))


def chosen(where: TenantSnapshot, model: str | None) -> list[str]:
    return [target.id for target in targets_for(where, "openai", model, SPOKEN)]


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
    assert [target.id for target in targets_for(where, "anthropic", "any", {"openai"})] == ["main/*"]


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

    (target,) = targets_for(where, "openai", None, SPOKEN)
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
