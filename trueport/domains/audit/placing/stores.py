"""The archives of one tenant, opened: that of the installation, and those that the tenant has chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, cast

import msgspec
from yarl import URL

from trueport.domains.audit.anchoring.anchoring import egress_policy
from trueport.domains.audit.placing.models import StoredPlace
from trueport.domains.audit.placing.repository import Choices, Places
from trueport.domains.auth.api import tenant_key
from trueport.domains.config.api import allowed_regions
from trueport.gateway.egress import EgressPolicy, UrlRefused, parse_upstream_url
from trueport.kit.crypto import DataKey, SealBroken, Sealed
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable
from trueport.storage.documents import UnknownStorage
from trueport.storage.own_archives import ArchivePlace, Provider, open_place
from trueport.storage.s3_archives import Permits
from trueport.web.domain import Resources

INSTALLATION: Final = ""
"""The place of segments in the archive that TRUEPORT_ARCHIVE_URL names."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a tenant's segments lie. `current` is the place of the next one, `outside` are places in a region that the
    tenant does not allow now."""

    current: str
    openers: Mapping[str, Callable[[], ArchiveStore]]
    outside: frozenset[str] = frozenset()
    _opened: dict[str, ArchiveStore] = field(default_factory=dict)

    @classmethod
    def only(cls, store: ArchiveStore) -> "Stores":
        """One place, that of the installation."""
        return cls(INSTALLATION, {INSTALLATION: lambda: store})

    @property
    def is_set(self) -> bool:
        """Whether there is anywhere to archive to."""
        return self.current in self.openers

    def at(self, place: str) -> ArchiveStore:
        """Raises ArchiveUnavailable for one that cannot be opened, as when its address is not permitted any more."""
        if place not in self._opened:
            if place not in self.openers:
                raise ArchiveUnavailable("place_unknown")
            try:
                self._opened[place] = self.openers[place]()
            except (UnknownStorage, UrlRefused, SealBroken) as error:
                raise ArchiveUnavailable(error.code) from error
        return self._opened[place]

    def all(self) -> list[tuple[str, ArchiveStore]]:
        """Every place with its archive: the current one first, then the newest. Raises ArchiveUnavailable."""
        places = sorted(self.openers, key=lambda place: place != self.current)
        return [(place, self.at(place)) for place in places]


async def stores_of(resources: Resources, scope: TenantScope, installation: ArchiveStore | None) -> Stores:
    """Raises a kit Unavailable."""
    openers: dict[str, Callable[[], ArchiveStore]] = {}
    chosen = await Choices(resources.database, scope).current()
    outside: frozenset[str] = frozenset()
    if chosen is not None:
        stored = await Places(resources.database, scope).newest_first()
        key = await tenant_key(resources, scope.tenant_id)
        openers = {each.id: _opener(resources, each, key) for each in stored}
        regions = await allowed_regions(resources.database, scope)
        outside = frozenset(each.id for each in stored if regions and each.region not in regions)
    if installation is not None:
        openers[INSTALLATION] = lambda: installation
    return Stores(chosen or INSTALLATION, openers, outside)


def _opener(resources: Resources, stored: StoredPlace, key: DataKey) -> Callable[[], ArchiveStore]:
    return lambda: opened(resources, stored.tenant_id, place_of(stored), unsealed(stored, key))


def opened(
    resources: Resources, tenant_id: str, place: ArchivePlace, credentials: Mapping[str, Secret]
) -> ArchiveStore:
    """The archive at a place. Raises UrlRefused and UnknownStorage."""
    permits: Permits = _nowhere
    if place.provider == "s3":
        policy = egress_policy(resources.settings)
        permits = _permits(policy, parse_upstream_url(place.address, policy))
    folder = folder_for(resources.settings.data_dir, tenant_id)
    return open_place(place, credentials, folder, resources.clock, permits)


def folder_for(data_dir: Path, tenant_id: str) -> Path:
    """Where a tenant's own archive in a folder lies: a place that it cannot name."""
    return data_dir / "archives" / tenant_id


def _nowhere(address: str) -> bool:
    """For stores that take no address."""
    del address
    return False


def _permits(policy: EgressPolicy, url: URL) -> Permits:
    listed_only = policy.needs_listing(url.scheme, url.port or 0)

    def permits(address: str) -> bool:
        return policy.permits(ip_address(address), host=url.raw_host or "", listed_only=listed_only)

    return permits


def place_of(stored: StoredPlace) -> ArchivePlace:
    return ArchivePlace(
        cast(Provider, stored.provider),
        stored.bucket,
        stored.prefix,
        stored.location,
        stored.endpoint,
        stored.account,
    )


def sealed(credentials: Mapping[str, str], tenant_id: str, place_id: str, key: DataKey) -> bytes:
    """Credentials as they are stored. `key` is the tenant's."""
    return key.seal(msgspec.json.encode(credentials), _binding(tenant_id, place_id)).to_bytes()


def unsealed(stored: StoredPlace, key: DataKey) -> dict[str, Secret]:
    """Raises SealBroken."""
    text = key.open(Sealed.from_bytes(stored.sealed), _binding(stored.tenant_id, stored.id))
    return {name: Secret(value) for name, value in msgspec.json.decode(text, type=dict[str, str]).items()}


def _binding(tenant_id: str, place_id: str) -> str:
    return f"{tenant_id}|archive|{place_id}"
