from hashlib import sha256

from trueport.gateway.breaker.scopes import ALIVE_KEY, ScopeKeys, scope_of

VENDOR = "https://api.openai.com:443"


def test_a_tenants_own_account_at_the_vendor_has_its_own_circuit() -> None:
    assert scope_of("openai", "crd_a", "ten_a", VENDOR, is_custom=False, region=None) == "openai:crd_a"


def test_without_a_credential_it_is_the_view_of_the_whole_provider() -> None:
    assert scope_of("openai", "", "ten_a", VENDOR, is_custom=False, region=None) == "openai"


def test_a_region_is_told_apart() -> None:
    assert scope_of("openai", "crd_a", "ten_a", VENDOR, is_custom=False, region="eu") == "openai@eu:crd_a"
    assert scope_of("openai", "", "ten_a", VENDOR, is_custom=False, region="eu") == "openai@eu"


def test_another_host_belongs_to_tenant_and_origin_alone() -> None:
    origin = "https://llm.example:8443"

    scope = scope_of("openai", "crd_a", "ten_a", origin, is_custom=True, region="eu")

    assert scope == "custom:" + sha256(b"ten_ahttps://llm.example:8443").hexdigest()[:16]
    assert scope == scope_of("anthropic", "crd_b", "ten_a", "https://LLM.example:8443", is_custom=True, region=None)
    assert scope != scope_of("openai", "crd_a", "ten_b", origin, is_custom=True, region="eu")
    assert scope != scope_of("openai", "crd_a", "ten_a", "https://llm.example:8444", is_custom=True, region="eu")


def test_the_keys_have_their_documented_names() -> None:
    assert ScopeKeys.of("openai") == ScopeKeys(
        "circuit_breaker:openai:state", "circuit_breaker:openai:meta", "circuit_breaker:openai:window"
    )


def test_in_a_cluster_the_scope_is_the_hash_tag() -> None:
    assert ScopeKeys.of("openai:crd_a", cluster=True) == ScopeKeys(
        "circuit_breaker:{openai:crd_a}:state",
        "circuit_breaker:{openai:crd_a}:meta",
        "circuit_breaker:{openai:crd_a}:window",
    )


def test_no_circuit_has_the_name_of_the_sign_of_life() -> None:
    keys = ScopeKeys.of("alive")

    assert ALIVE_KEY not in (keys.state, keys.meta, keys.window)
