"""A tenant's file: understood as a whole or refused with every reason."""

import re
from pathlib import Path

import pytest

from trueport.detection.policy import problems_of
from trueport.domains.config.api import (
    InvalidConfiguration,
    check_tenant_file,
    read_policy_list,
    read_secrets,
    read_tenant_file,
    write_tenant_file,
)
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.providers.registry import PROVIDER_NAMES

SAMPLE = """
version: 1
tenant: acme
credentials:
  openai-main: {provider: openai, base_url: https://api.openai.com/v1, secret: {env: OPENAI_API_KEY}}
  vllm: {provider: openai_compatible, base_url: http://vllm.internal:8000/v1}
routes:
  - match: {model: "gpt-4o*"}
    targets:
      - {credential: openai-main, timeout_s: 60}
      - {credential: vllm, model: llama-70b, weight: 3}
  - match: {dialect: openai}
    targets: [{credential: openai-main}]
limits: {requests_per_minute: 600, tokens_per_minute: 200000, concurrency: 100}
"""
EGRESS = EgressPolicy(allow=("vllm.internal",))


def check(text: str) -> None:
    check_tenant_file(read_tenant_file(text), PROVIDER_NAMES, EGRESS)


def refusal_of(text: str) -> str:
    with pytest.raises(InvalidConfiguration) as refused:
        check(text)
    return refused.value.message


def test_the_documented_file_is_understood() -> None:
    check(SAMPLE)
    file = read_tenant_file(SAMPLE)

    assert (file.routes[0].targets[1].model, file.limits.concurrency) == ("llama-70b", 100)


def test_a_file_that_is_written_reads_the_same() -> None:
    file = read_tenant_file(SAMPLE)

    assert read_tenant_file(write_tenant_file(file)) == file


def test_every_problem_is_told_at_once() -> None:
    told = refusal_of("""
version: 2
credentials:
  "a b": {provider: openai, base_url: https://api.openai.com/v1}
  far: {provider: carrier-pigeon, base_url: https://api.openai.com/v1}
  near: {provider: openai, base_url: "http://169.254.169.254/latest"}
routes:
  - match: {model: "*", dialect: klingon}
    targets: [{credential: nobody}]
policies: [{name: x}]
budgets: [{period: month, limit_usd: much}]
""")

    for part in (
        "version 2",
        "'a b'",
        "carrier-pigeon",
        "credential near",
        "'nobody'",
        "klingon",
        "policies",
        "budget 1",
    ):
        assert part in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "version: one",
        "version: 1\nunknown: 2",
        "version: 1\ncredentials: {a: {provider: openai}}",
        "version: 1\nlimits: {requests_per_minute: -1}",
        "version: 1\nroutes: [{match: {}, targets: []}]",
        "version: 1\ncredentials: {a: {provider: openai, base_url: https://x.example/v1, secret: plain-text}}",
        "version: 1\ncredentials: !!python/object/apply:os.system [id]",
        "a: &a [x]\nb: &b [*a, *a]\nversion: 1",
        "version: 1\n\ttabs: here",
    ],
)
def test_what_is_no_tenants_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfiguration):
        check(text)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/v1", "http://api.openai.com/v1", "https://user@x.example/v1", "https://10.0.0.8/v1", "ftp://x",
     "https://[::1]/v1", "https://0x7f000001/v1", "https://x.example/v1#part"],
)  # fmt: skip
def test_an_address_the_gateway_must_not_reach_is_refused_when_it_is_entered(url: str) -> None:
    told = refusal_of(f'version: 1\ncredentials: {{a: {{provider: openai, base_url: "{url}"}}}}')

    assert "credential a" in told
    assert "TRUEPORT_EGRESS_ALLOW" in told


def test_a_secret_comes_from_one_place() -> None:
    told = refusal_of(
        "version: 1\ncredentials: {a: {provider: openai, base_url: https://x.example/v1, secret: {env: A, file: /b}}}"
    )

    assert "either env or file" in told


def test_secrets_are_read_from_the_environment_and_from_files() -> None:
    file = read_tenant_file("""
version: 1
credentials:
  a: {provider: openai, base_url: https://x.example/v1, secret: {env: A_KEY}}
  b: {provider: openai, base_url: https://x.example/v1, secret: {file: /run/secrets/b}}
  c: {provider: openai, base_url: https://x.example/v1}
""")

    found = read_secrets(file, {"A_KEY": "key-a"}, lambda _: "key-b\n")

    assert {name: secret.reveal() for name, secret in found.items()} == {"a": "key-a", "b": "key-b"}


def test_secrets_that_are_missing_or_unfit_are_all_named() -> None:
    file = read_tenant_file("""
version: 1
credentials:
  a: {provider: openai, base_url: https://x.example/v1, secret: {env: NOT_SET}}
  b: {provider: openai, base_url: https://x.example/v1, secret: {file: /nowhere/at/all}}
  c: {provider: openai, base_url: https://x.example/v1, secret: {env: ODD}}
""")

    with pytest.raises(InvalidConfiguration) as refused:
        read_secrets(file, {"ODD": "line\nbreak"})
    assert [f"credential {name}" in refused.value.message for name in "abc"] == [True, True, True]


def test_budgets_aliases_regions_prices_and_limits_survive_writing_and_reading() -> None:
    file = read_tenant_file(FULL)

    check(FULL)
    assert read_tenant_file(write_tenant_file(file)) == file


FULL = """
version: 1
tenant: acme
credentials:
  main: {provider: openai, base_url: https://api.openai.com/v1, region: us}
  east: {provider: azure, base_url: https://acme.openai.azure.com, region: eu, deployments: {gpt-4o: prod-4o}}
aliases: {fast: gpt-4o-mini}
regions: [eu, us]
routes:
  - match: {model: "gpt-*"}
    choose: latency
    cache_s: 60
    targets: [{credential: main, priority: 1, retries: 2}, {credential: east, priority: 1}]
limits:
  requests_per_minute: 600
  per_user: {requests_per_minute: 5}
  models: {"gpt-4*": {tokens_per_minute: 1000}}
budgets:
  - {period: month, limit_usd: "500.00", action: block, alert_at: [0.5, 0.8, 1.0]}
  - {period: day, limit_usd: "5", action: alert, per: user, model: "gpt-4*"}
prices:
  - {provider: openai, model: "gpt-4o*", input: "2.00", output: "8.00"}
"""


@pytest.mark.parametrize(
    ("member", "told"),
    [
        ("budgets: [{period: month, limit_usd: '-1'}]", "above 0"),
        ("budgets: [{period: month, limit_usd: '0'}]", "above 0"),
        ("budgets: [{period: month, limit_usd: '99999999999'}]", "at most"),
        ("budgets: [{period: day, limit_usd: '1'}, {period: day, limit_usd: '2'}]", "give them names"),
        ("aliases: {a: b, b: c}", "alias"),
        ("prices: [{provider: openai}]", "prices"),
        (
            "credentials: {m: {provider: openai, base_url: 'https://x.example'}}\n"
            "routes: [{match: {}, targets: [{credential: m, priority: 1}, {credential: m}]}]",
            "priority",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_reason(member: str, told: str) -> None:
    assert told in refusal_of(f"version: 1\n{member}")


def test_words_that_older_yaml_takes_for_true_and_false_are_words() -> None:
    file = read_tenant_file(
        "version: 1\nregions: [no, off]\npolicies:\n"
        "  - {name: yes, on: [input], when: {category: pii, countries: [NO]}, action: redact}\n"
        "  - {name: n, when: {unscannable: true}, action: block}\n"
    )

    assert file.regions == ["no", "off"]
    assert file.policies == [
        {"name": "yes", "on": ["input"], "when": {"category": "pii", "countries": ["NO"]}, "action": "redact"},
        {"name": "n", "when": {"unscannable": True}, "action": "block"},
    ]
    assert problems_of(file.policies) == []
    assert read_tenant_file(write_tenant_file(file)) == file


def test_the_policies_of_the_documentation_can_be_applied() -> None:
    page = (Path(__file__).parents[3] / "ui" / "docs" / "policies.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)

    assert len(blocks) >= 3
    assert [problems_of(read_policy_list(block)) for block in blocks] == [[]] * len(blocks)
