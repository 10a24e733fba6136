"""OpenAI and everything shaped like it: a base URL and a bearer token."""

from yarl import URL

from trueport.gateway.snapshot import Credential


class OpenAIProvider:
    """`openai` and `openai_compatible` differ in where prices and quirks come from, not on the wire."""

    dialect = "openai"

    def __init__(self, name: str) -> None:
        self.name = name

    def url(self, credential: Credential, path: str, query: str) -> URL:
        base = credential.base_url
        return URL.build(
            scheme=base.scheme,
            authority=base.raw_authority,
            path=f"{base.raw_path.rstrip('/')}/{path}",
            query_string=query,
            encoded=True,
        )

    def headers(self, credential: Credential) -> tuple[tuple[str, str], ...]:
        if credential.secret is None:
            return ()
        return (("authorization", f"Bearer {credential.secret.reveal()}"),)


PROVIDERS = {provider.name: provider for provider in (OpenAIProvider("openai"), OpenAIProvider("openai_compatible"))}
