"""Further tenants of a running installation, made through the management API as a user would."""

from dataclasses import dataclass
from typing import Any

from tests.support.installation import PASSWORD, Installation


@dataclass(frozen=True, slots=True)
class TenantAccess:
    """A tenant's API key without limits, and its owner's token."""

    slug: str
    key: str
    token: str


def further_tenant(place: Installation, slug: str, **configuration: Any) -> TenantAccess:
    """A new tenant of the first one's owner, with the given members of a configuration file."""
    login = _asked(
        place, "/platform/api/global/auth/login",
        {"email": f"owner@{place.tenant}.example", "password": PASSWORD}, None,
    )  # fmt: skip
    owner = login["access_token"]
    tenant = _asked(place, "/platform/api/global/tenants", {"name": slug.title(), "slug": slug}, owner)
    place.configure(slug, **configuration)
    scoped = _asked(place, "/platform/api/global/auth/select-tenant", {"tenant_id": tenant["id"]}, owner)
    token = str(scoped["access_token"])
    body = {"name": "test", "env": "prod", "requests_per_minute": 1_000_000}
    return TenantAccess(slug, str(_asked(place, "/trueportai-services/api/v1/keys", body, token)["key"]), token)


def _asked(place: Installation, path: str, body: Any, token: str | None) -> dict[str, Any]:
    status, answer = place.ask(path, body=body, token=token)
    assert status in (200, 201), (path, status, answer)
    return dict(answer)
