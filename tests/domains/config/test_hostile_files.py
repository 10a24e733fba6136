"""Files that were written to do harm, or by mistake, end in one clear sentence and soon."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trueport.domains.config.api import InvalidConfiguration, check_tenant_file, read_secrets, read_tenant_file
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.providers.registry import PROVIDER_NAMES

NOTHING_ALLOWED = EgressPolicy(allow=())


def reason(read: Callable[[], object]) -> str:
    with pytest.raises(InvalidConfiguration) as refused:
        read()
    return "\n".join(refused.value.problems)


def credential(members: str) -> str:
    return f"version: 1\ncredentials: {{main: {{{members}}}}}\n"


def merge_bomb() -> str:
    steps = [f"  s{n}: &s{n} {{<<: [{', '.join([f'*s{n - 1}'] * 10)}]}}" for n in range(1, 30)]
    return "\n".join(["version: 1", "policies:", "- s0: &s0 {a: b}", *steps])


def laughs() -> str:
    steps = [f"- &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30)]
    return "\n".join(["version: 1", "budgets:", "- &l0 [lol]", *steps])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (merge_bomb(), "anchors, aliases and tags"),
        (laughs(), "anchors, aliases and tags"),
        ("version: 1\npolicies: [&loop {me: *loop}]", "anchors, aliases and tags"),
        ("version: 1\nlimits: !!python/object/apply:os.system [id]", "anchors, aliases and tags"),
        ("version: !!bool perhaps", "anchors, aliases and tags"),
        ("version: !!timestamp ''", "anchors, aliases and tags"),
        ("[" * 200_000, "nested too deeply"),
        ("{a: " * 50_000, "nested too deeply"),
        ("- " * 50_000, "nested too deeply"),
        ("version: 2026-13-45", "date or number"),
        ("version: " + "9" * 5_000, "date or number"),
        ("version: 1\nversion: 1", "'version' is there twice"),
        (credential("provider: openai, provider: azure, base_url: https://x.example"), "'provider' is there twice"),
        ("version: 1\n# " + "x" * (1 << 20), "larger than 1 MiB"),
        ("version: 1\n---\nversion: 1", "another document"),
        ("? [a, b]\n: c", "not YAML"),
        ("version: 1\x00", "not YAML"),
    ],
    ids=range(17),
)
def test_a_file_that_cannot_be_read_says_why(text: str, part: str) -> None:
    assert part in reason(lambda: read_tenant_file(text))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("version: 1\ntarget: x", "`target`"),
        ("version: true", "$.version"),
        (credential("provider: openai, base_url: https://x.example, api_key: sk-canary"), "`api_key`"),
        (credential("provider: openai, base_url: https://x.example, secret: sk-canary"), ".secret"),
        (credential("provider: openai, base_url: https://x.example, secret: {vault: x}"), "`vault`"),
        ("version: 1\nroutes: [{match: {model: x, colour: red}, targets: [{credential: a}]}]", "`colour`"),
        ("version: 1\nroutes: [{match: {}, targets: [{credential: a, weight: 0}]}]", ".weight"),
        ("version: 1\nroutes: [{match: {}, targets: [{credential: a, timeout_s: .nan}]}]", ".timeout_s"),
        ("version: 1\nroutes: [{match: {}, targets: [{credential: a, timeout_s: .inf}]}]", ".timeout_s"),
        ("version: 1\nroutes: [{match: {}, targets: [{credential: a, timeout_s: 601}]}]", ".timeout_s"),
        ("version: 1\nlimits: {concurrency: 1.5}", ".concurrency"),
        ("version: 1\nlimits: {concurrency: true}", ".concurrency"),
        ("version: 1\nlimits: {requests_per_minute: '60'}", ".requests_per_minute"),
    ],
)
def test_what_has_the_wrong_form_is_named_and_not_quoted(text: str, where: str) -> None:
    told = reason(lambda: read_tenant_file(text))

    assert where in told
    assert "canary" not in told


@pytest.mark.parametrize("provider", ["bedrock", "", "OpenAI", "vertex"])
def test_a_provider_that_is_not_there_is_refused_with_those_that_are(provider: str) -> None:
    file = read_tenant_file(credential(f"provider: '{provider}', base_url: https://x.example"))
    told = reason(lambda: check_tenant_file(file, PROVIDER_NAMES, NOTHING_ALLOWED))

    assert f"provider {provider!r} is not available; known: {', '.join(PROVIDER_NAMES)}." in told


def test_what_cannot_be_enforced_is_not_accepted_in_silence() -> None:
    file = read_tenant_file("version: 1\npolicies: [{name: x}]")

    told = reason(lambda: check_tenant_file(file, PROVIDER_NAMES, NOTHING_ALLOWED))
    assert told.startswith("policies 1 ('x')")
    assert "missing required field `when`" in told


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data", "https://169.254.169.254", "https://[fd00:ec2::254]/",
        "https://metadata.google.internal/computeMetadata/v1", "http://127.0.0.1:8000/v1", "https://localhost/v1",
        "https://2130706433/v1", "https://127.1/v1", "https://[::ffff:127.0.0.1]/v1", "http://vllm.internal:8000/v1",
        "http://api.openai.com/v1", "https://api.openai.com:22/v1", "https://key:canary@api.openai.com/v1",
        "file:///etc/passwd", "https:///v1", "api.openai.com", "https://api.openai.com/../v1", "",
    ],
)  # fmt: skip
def test_an_address_that_nobody_allowed_is_refused_on_save(url: str) -> None:
    file = read_tenant_file(credential(f"provider: openai, base_url: '{url}'"))
    told = reason(lambda: check_tenant_file(file, PROVIDER_NAMES, NOTHING_ALLOWED))

    assert told.startswith("credential main: ")
    assert "canary" not in told


def test_plain_http_to_a_listed_private_address_is_accepted_and_metadata_never_by_a_name() -> None:
    listed = EgressPolicy(allow=("10.0.0.0/8", "vllm.internal"))

    for url in ("http://10.1.2.3:8000/v1", "http://vllm.internal:8000/v1"):
        check_tenant_file(read_tenant_file(credential(f"provider: openai, base_url: '{url}'")), PROVIDER_NAMES, listed)
    near = read_tenant_file(credential("provider: openai, base_url: 'http://169.254.169.254/v1'"))
    assert "credential main" in reason(lambda: check_tenant_file(near, PROVIDER_NAMES, listed))


@pytest.mark.parametrize("content", [b"", b"  \n", b"two\nlines", b"\xff\xfe", "schlüssel".encode(), b"nul\x00"])
def test_a_secret_file_that_holds_no_secret_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    file = read_tenant_file(credential(f"provider: openai, base_url: https://x.example, secret: {{file: '{path}'}}"))

    assert "credential main" in reason(lambda: read_secrets(file, {}))


def test_a_secret_file_is_read_without_the_line_end(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-from-file\r\n")
    file = read_tenant_file(credential(f"provider: openai, base_url: https://x.example, secret: {{file: '{path}'}}"))

    assert read_secrets(file, {})["main"].reveal() == "sk-from-file"


@pytest.mark.parametrize("source", ['{file: "/no\\0where"}', '{env: "A=B"}', '{env: ""}', '{file: ""}', "{file: /}"])
def test_a_source_that_cannot_be_is_named(source: str) -> None:
    file = read_tenant_file(credential(f"provider: openai, base_url: https://x.example, secret: {source}"))

    assert "credential main" in reason(lambda: read_secrets(file))
