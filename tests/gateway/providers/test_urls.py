"""Where each provider's requests go, and what never gets into a URL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tests.support.providers import account, asking
from trueport.gateway.call import Request
from trueport.gateway.egress import Egress, EgressPolicy
from trueport.gateway.providers.address import UnsafeAddress, checked_query, operation_path, segment
from trueport.gateway.providers.base import Provider
from trueport.gateway.providers.registry import providers
from trueport.gateway.upstream import Upstream
from trueport.kit.clock import ManualClock

PROVIDERS = providers(Upstream(Egress(EgressPolicy())), ManualClock())
VERTEX = "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu/publishers/google"
GEMINI = "https://generativelanguage.googleapis.com"


def gemini(operation: str, model: str | None, **more: object) -> Request:
    return asking(operation, model=model, **more)  # type: ignore[arg-type]  # tables of keyword arguments


@pytest.mark.parametrize(
    ("provider", "base", "request_", "url"),
    [
        ("openai", "https://api.openai.com/v1", asking(), "https://api.openai.com/v1/chat/completions"),
        ("openai", "https://api.openai.com/v1/", asking("models"), "https://api.openai.com/v1/models"),
        ("openai", "https://api.openai.com", asking("files"), "https://api.openai.com/v1/files"),
        ("openai", "https://proxy.example.org", asking("files"), "https://proxy.example.org/files"),
        (
            "openai",
            "https://api.openai.com/v1",
            asking("responses/resp_1", query="include%5B%5D=a&api-version=2024-10-21&stream=true"),
            "https://api.openai.com/v1/responses/resp_1?include%5B%5D=a&stream=true",
        ),
        ("simulator", "http://127.0.0.1:9900/v1", asking(), "http://127.0.0.1:9900/v1/chat/completions"),
        ("openai_compatible", "http://vllm:8000/v1", asking(), "http://vllm:8000/v1/chat/completions"),
        ("openai_compatible", "https://api.mistral.ai", asking(), "https://api.mistral.ai/v1/chat/completions"),
        ("openai_compatible", "https://api.groq.com", asking(), "https://api.groq.com/openai/v1/chat/completions"),
        (
            "openai_compatible",
            "https://openrouter.ai/api/v1",
            asking("models/meta-llama/llama-3:free"),
            "https://openrouter.ai/api/v1/models/meta-llama/llama-3:free",
        ),
        ("openai_compatible", "http://10.0.0.7:11434", asking(), "http://10.0.0.7:11434/v1/chat/completions"),
        ("anthropic", "https://api.anthropic.com", asking("messages"), "https://api.anthropic.com/v1/messages"),
        (
            "anthropic",
            "https://api.anthropic.com/v1/",
            asking("messages/count_tokens", query="beta=true&api-version=x"),
            "https://api.anthropic.com/v1/messages/count_tokens?beta=true",
        ),
        ("anthropic", "https://h.example.org/a", asking("models"), "https://h.example.org/a/v1/models"),
    ],
)
def test_openai_shaped_and_anthropic_urls(provider: str, base: str, request_: Request, url: str) -> None:
    assert str(PROVIDERS[provider].url(account(base), request_)) == url


@pytest.mark.parametrize(
    ("base", "request_", "url"),
    [
        (GEMINI, gemini("generateContent", "gemini-2.5-flash"), "/v1beta/models/gemini-2.5-flash:generateContent"),
        (GEMINI, gemini("generateContent", "models/g", version="v1"), "/v1/models/g:generateContent"),
        (GEMINI + "/v1beta", gemini("countTokens", "g"), "/v1beta/models/g:countTokens"),
        (GEMINI + "/v1beta/", gemini("countTokens", "g", version="v1alpha"), "/v1alpha/models/g:countTokens"),
        (GEMINI, gemini("generateContent", "tunedModels/mine-1"), "/v1beta/tunedModels/mine-1:generateContent"),
        (
            GEMINI,
            gemini("streamGenerateContent", "g", query="alt=sse"),
            "/v1beta/models/g:streamGenerateContent?alt=sse",
        ),
        (
            GEMINI,
            gemini("generateContent", "g", query="key=K&%6Bey=K&access_token=T&fields=x&%24fields=x&$key=K&pageSize=3"),
            "/v1beta/models/g:generateContent?pageSize=3",
        ),
        (GEMINI, gemini("models", None, query="pageToken=t"), "/v1beta/models?pageToken=t"),
        (GEMINI, gemini("models/g", "g"), "/v1beta/models/g"),
        (GEMINI, gemini("cachedContents", "g"), "/v1beta/cachedContents"),
        (GEMINI, gemini("interactions", "g"), "/v1beta/interactions"),
        (GEMINI, gemini("batches/b-1:cancel", None), "/v1beta/batches/b-1:cancel"),
        (GEMINI, gemini("upload/files", None, version="v1beta"), "/upload/v1beta/files"),
        (VERTEX, gemini("generateContent", "g-2.5", version="v1beta"), "{V}/models/g-2.5:generateContent"),
        (VERTEX, gemini("predict", "publishers/google/models/imagen@006"), "{V}/models/imagen@006:predict"),
        (VERTEX, gemini("models/g", "g"), "{V}/models/g"),
        (VERTEX, gemini("cachedContents", "g"), "/v1/projects/p/locations/eu/cachedContents"),
        (VERTEX.removesuffix("/publishers/google"), gemini("countTokens", "g"), "{V}/models/g:countTokens"),
        (
            "https://aiplatform.googleapis.com/v1",
            gemini("countTokens", "g"),
            "/v1/publishers/google/models/g:countTokens",
        ),
    ],
)
def test_google_urls(base: str, request_: Request, url: str) -> None:
    made = PROVIDERS["google"].url(account(base), request_)

    assert made.origin() == URL(base).origin()
    assert made.raw_path_qs == url.replace("{V}", URL(VERTEX).raw_path)


@pytest.mark.parametrize(
    ("base", "request_", "url"),
    [
        ("", asking(model="gpt-4o"), "/openai/deployments/gpt-4o-prod/chat/completions?api-version=2024-10-21"),
        ("/", asking("embeddings", model="other"), "/openai/deployments/other/embeddings?api-version=2024-10-21"),
        ("/openai", asking("audio/speech", model="tts"), "/openai/deployments/tts/audio/speech?api-version=2024-10-21"),
        ("/openai/", asking("images/edits", model="i"), "/openai/deployments/i/images/edits?api-version=2024-10-21"),
        (
            "",
            asking("completions", model="m", query="api-version=2025-01-01-preview&API-Version=x&a=1"),
            "/openai/deployments/m/completions?a=1&api-version=2025-01-01-preview",
        ),
        ("", asking("embeddings", model="a b"), "/openai/deployments/a%20b/embeddings?api-version=2024-10-21"),
        ("", asking("responses", model="gpt-4o"), "/openai/responses?api-version=2024-10-21"),
        ("", asking("files", query="api-version="), "/openai/files?api-version=2024-10-21"),
        ("", asking("files/f-1/content"), "/openai/files/f-1/content?api-version=2024-10-21"),
        ("", asking("audio/transcriptions"), "/openai/audio/transcriptions?api-version=2024-10-21"),
        ("/openai/v1", asking(model="gpt-4o", query="api-version=2024-10-21"), "/openai/v1/chat/completions"),
        ("/openai/v1/", asking("files", query="purpose=batch"), "/openai/v1/files?purpose=batch"),
    ],
)
def test_azure_urls(base: str, request_: Request, url: str) -> None:
    host = "https://acme-eu.openai.azure.com"
    credential = account(host + base, provider="azure", deployments={"gpt-4o": "gpt-4o-prod"})

    assert str(PROVIDERS["azure"].url(credential, request_)) == host + url


def test_azure_calls_with_the_accounts_version_where_the_client_names_none() -> None:
    credential = account("https://a.openai.azure.com", api_version="2025-03-01-preview")

    assert PROVIDERS["azure"].url(credential, asking("files")).query_string == "api-version=2025-03-01-preview"


HOSTILE = [
    "..",
    ".",
    "",
    "a/b",
    "a/../b",
    "..\\x",
    "a?b",
    "a#b",
    "a%2fb",
    "%2e%2e",
    "a\nb",
    "a\x00b",
    "a\u2028b",
    "x" * 300,
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    ("provider", "base", "where"),
    [
        ("azure", "https://a.openai.azure.com", "model"),
        ("azure", "https://a.openai.azure.com", "deployment"),
        ("google", GEMINI, "model"),
        ("google", VERTEX, "model"),
        ("google", GEMINI, "tuned"),
    ],
)
def test_a_hostile_name_gets_into_no_path(provider: str, base: str, where: str, text: str) -> None:
    credential = account(base, deployments={"m": text} if where == "deployment" else {})
    model = {"model": text, "deployment": "m", "tuned": f"tunedModels/{text}"}[where]
    operation = "generateContent" if provider == "google" else "chat/completions"

    with pytest.raises(UnsafeAddress) as told:
        PROVIDERS[provider].url(credential, asking(operation, model=model))

    assert told.value.message == f"The {told.value.fields['param']} cannot be part of an address."


@pytest.mark.parametrize("model", ["g:streamGenerateContent", "publishers/other/x", "projects/p/models/g", "a/b"])
def test_a_model_at_google_cannot_name_another_verb_or_place(model: str) -> None:
    with pytest.raises(UnsafeAddress):
        PROVIDERS["google"].url(account(GEMINI), asking("countTokens", model=model))


@pytest.mark.parametrize("deployment", ["d:x", "a@b", "a,b", "a=b"])
def test_a_deployment_has_no_marks_that_paths_give_meaning_to(deployment: str) -> None:
    with pytest.raises(UnsafeAddress):
        PROVIDERS["azure"].url(account("https://a.openai.azure.com"), asking(model=deployment))


@pytest.mark.parametrize("provider", list(PROVIDERS))
@pytest.mark.parametrize(
    "path", ["..", "a/../b", "a//b", "/a", "a/", "a?b", "a#b", "a%2e%2e/b", "a\\b", "a\rb", "", "./a"]
)
def test_a_hostile_operation_gets_into_no_path(provider: str, path: str) -> None:
    with pytest.raises(UnsafeAddress):
        PROVIDERS[provider].url(account("https://h.example.org/v1"), asking(path))


@pytest.mark.parametrize("provider", list(PROVIDERS))
@pytest.mark.parametrize("query", ["a#b", "a b", "a=\r\nx", "a=%zz", "a=%", "a=\\x", "a=\u00e9", "a=\x00"])
def test_a_hostile_query_gets_into_no_url(provider: str, query: str) -> None:
    with pytest.raises(UnsafeAddress):
        PROVIDERS[provider].url(account("https://h.example.org/v1"), asking("files", query=query))


@pytest.mark.parametrize("version", ["v1/../..", "v1beta/x", "", "..", "v1?x", "openai"])
def test_google_has_no_version_of_that_name(version: str) -> None:
    request = asking("generateContent", model="g", version=version or "/")

    with pytest.raises(UnsafeAddress):
        PROVIDERS["google"].url(account(GEMINI), request)


@pytest.mark.parametrize("version", ["2024-10-21/x", "a%23b", "a+b", "x" * 41])
def test_azure_has_no_version_of_that_name(version: str) -> None:
    with pytest.raises(UnsafeAddress):
        PROVIDERS["azure"].url(account("https://a.openai.azure.com"), asking("files", query=f"api-version={version}"))


def test_what_clients_leave_unencoded_is_encoded_and_a_semicolon_separates_nothing() -> None:
    assert checked_query("include[]=a&b=1;key=2&&c={}", ("key",)) == "include%5B%5D=a&b=1%3Bkey=2&c=%7B%7D"


@given(st.text(max_size=40))
def test_a_segment_comes_back_as_the_very_text(text: str) -> None:
    try:
        made = segment(text, "model")
    except UnsafeAddress:
        return
    url = URL.build(scheme="https", authority="h.example", path=f"/before/{made}/after", encoded=True)

    assert (url.parts, url.query_string, url.fragment) == (("/", "before", text, "after"), "", "")


@given(st.text(alphabet="ab./\\?#%;: \n\u00e9", max_size=12))
def test_an_operation_never_leaves_its_place(text: str) -> None:
    try:
        made = operation_path(text)
    except UnsafeAddress:
        return
    url = URL(f"https://h.example/base/{made}", encoded=True)

    assert url.path == f"/base/{text}"
    assert url.join(URL("")).raw_path.startswith("/base/")


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=list(PROVIDERS))
def test_every_provider_says_its_name_wire_and_defaults(provider: Provider) -> None:
    expected = (("anthropic-version", "2023-06-01"),) if provider.name == "anthropic" else ()

    assert PROVIDERS[provider.name] is provider
    assert provider.default_headers == expected
