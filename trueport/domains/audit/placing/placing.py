"""A tenant chooses where its archive lies: tried before it is taken, on record, and nothing elsewhere is lost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from odmantic import query

from trueport.domains.audit.anchoring.anchoring import egress_policy
from trueport.domains.audit.models import ArchivedSegment
from trueport.domains.audit.placing.models import ArchiveChoice, StoredPlace
from trueport.domains.audit.placing.probing import Lack, Probed, probe
from trueport.domains.audit.placing.repository import Choices, Places
from trueport.domains.audit.placing.stores import INSTALLATION, opened, place_of, sealed, unsealed
from trueport.domains.audit.repository import ArchivedSegments
from trueport.domains.auth.api import tenant_key
from trueport.domains.config.api import allowed_regions
from trueport.gateway.egress import Egress, EgressRefused, parse_upstream_url
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.kit.ids import new_id
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import UnknownStorage
from trueport.storage.own_archives import ArchivePlace, check_credentials, check_place
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources

_MOST_PLACES: Final = 20


class ArchiveUnfit(InvalidRequest):
    """The archive was tried and does not do what it is for. Everything found is in `errors`; nothing was changed."""

    code = "archive_unfit"
    status = 422

    def __init__(self, lacks: Sequence[Lack]) -> None:
        super().__init__(
            "The archive will not do: " + " ".join(each.said for each in lacks),
            errors=[{"field": each.code, "message": each.said} for each in lacks],
        )


class Placing:
    """The archive of one tenant's own."""

    def __init__(self, resources: Resources, scope: TenantScope) -> None:
        self._resources = resources
        self._scope = scope
        self._places = Places(resources.database, scope)
        self._choices = Choices(resources.database, scope)
        self._segments = ArchivedSegments(resources.database, scope)

    async def current(self) -> StoredPlace | None:
        """The place that the next segment goes to; None: the installation's archive, if it has one."""
        chosen = await self._choices.current()
        return await self._places.get(chosen) if chosen else None

    async def counts(self) -> list[tuple[StoredPlace | None, int]]:
        """Every place with segments in it, and how many; None is the installation's archive."""
        places = await self._places.newest_first()
        own = [(each, await self._segments.count(query.eq(ArchivedSegment.place, each.id))) for each in places]
        # The rest: segments from before there were places name none.
        rest = await self._segments.count() - sum(count for _, count in own)
        counts: list[tuple[StoredPlace | None, int]] = [(None, rest), *own]
        return [each for each in counts if each[1]]

    async def choose(
        self, deeds: Deeds, place: ArchivePlace, region: str, credentials: Mapping[str, str] | None
    ) -> StoredPlace:
        """Archive there from now on. Without credentials, with those that were given for this very place before.

        Raises InvalidRequest, ArchiveUnfit, SpoolUnavailable and a kit Unavailable, and then has changed nothing.
        """
        await self._check(place, region)
        every = await self._places.newest_first()
        known = next((each for each in every if place_of(each) == place), None)
        if credentials is None and place.provider != "folder" and known is None:
            # What was entered for one address is never sent to another.
            raise InvalidRequest("A new place needs its credentials.", param="credentials")
        if known is None and len(every) >= _MOST_PLACES:
            raise InvalidRequest(f"An archive has had {_MOST_PLACES} places at most.", param="bucket")
        key = await tenant_key(self._resources, self._scope.tenant_id)
        place_id = known.id if known is not None else new_id("arc")
        if credentials is None and known is not None:
            used = unsealed(known, key)
        else:
            check_credentials(place.provider, credentials or {})
            used = {name: Secret(text) for name, text in (credentials or {}).items()}
        plain = {name: secret.reveal() for name, secret in used.items()}
        stored = StoredPlace(
            id=place_id,
            tenant_id=self._scope.tenant_id,
            revision=known.revision if known is not None else 0,
            created_at=known.created_at if known is not None else self._resources.clock.now(),
            created_by=known.created_by if known is not None else deeds.actor.by,
            region=region,
            sealed=sealed(plain, self._scope.tenant_id, place_id, key),
            **asdict(place),
        )
        before = await self.current()
        thing = Thing("archive", place_id, told(before) if before is not None else None, told(stored))
        given = sorted(credentials or ())
        async with deeds.doing(self._scope.tenant_id, "admin", "archive_chosen", thing, credentials_given=given):
            probed = await self._probe(place, used)
            if probed.lacks:
                raise ArchiveUnfit(probed.lacks)
            await (self._places.insert(stored) if known is None else self._places.replace(stored))
            await self._point_to(place_id)
        return stored

    async def leave(self, deeds: Deeds) -> None:
        """Archive to the installation's archive from now on. Raises NotFound and SpoolUnavailable."""
        before = await self.current()
        if before is None:
            raise NotFound("This organisation has no archive of its own.")
        thing = Thing("archive", before.id, told(before), None)
        async with deeds.doing(self._scope.tenant_id, "admin", "archive_left", thing):
            await self._point_to(INSTALLATION)

    async def test(self, deeds: Deeds, stored: StoredPlace) -> Probed:
        """Try a place. What is locked stays there, so it is on record. Raises SpoolUnavailable."""
        key = await tenant_key(self._resources, self._scope.tenant_id)
        async with deeds.doing(self._scope.tenant_id, "admin", "archive_tested", Thing("archive", stored.id)):
            return await self._probe(place_of(stored), unsealed(stored, key))

    async def _probe(self, place: ArchivePlace, credentials: Mapping[str, Secret]) -> Probed:
        tenant_id, settings = self._scope.tenant_id, self._resources.settings
        try:
            store = opened(self._resources, tenant_id, place, credentials)
        except EgressRefused as error:
            return _unusable(Lack("address", error.message))
        except UnknownStorage as error:
            return _unusable(Lack("not_available", error.message))
        allows_mutable = settings.archive.allows_mutable
        return await probe(store, tenant_id, place.location, self._resources.clock, allows_mutable=allows_mutable)

    async def _check(self, place: ArchivePlace, region: str) -> None:
        check_place(place)
        if place.provider == "folder" and not self._resources.settings.archive.allows_folders:
            raise InvalidRequest("This installation has no folders for archives of organisations.", param="provider")
        regions = await allowed_regions(self._resources.database, self._scope)
        if regions and region not in regions:
            raise InvalidRequest(
                f"This organisation allows {', '.join(sorted(regions))} only: say in `region` which of them it is.",
                param="region",
            )
        if place.provider == "s3":
            await self._check_address(place)

    async def _check_address(self, place: ArchivePlace) -> None:
        egress = Egress(egress_policy(self._resources.settings))
        try:
            url = parse_upstream_url(place.address, egress.policy)
            if url.raw_path != "/":
                raise InvalidRequest("An endpoint has no path.", param="endpoint")
            await egress.check(url)
        except EgressRefused as error:
            raise InvalidRequest(error.message, param="endpoint") from error
        except OSError as error:
            raise InvalidRequest("No address is known for the host of the endpoint.", param="endpoint") from error
        finally:
            await egress.close()

    async def _point_to(self, place_id: str) -> None:
        tenant_id = self._scope.tenant_id
        if await self._choices.update(tenant_id, {"place": place_id}) is None:
            now = self._resources.clock.now()
            choice = ArchiveChoice(id=tenant_id, tenant_id=tenant_id, created_at=now, place=place_id)
            await self._choices.insert_missing([choice])
            await self._choices.update(tenant_id, {"place": place_id})


def told(stored: StoredPlace) -> dict[str, object]:
    """A place as records show it: without its credentials."""
    return {**asdict(place_of(stored)), "region": stored.region}


def _unusable(lack: Lack) -> Probed:
    return Probed(worm=False, why="", lacks=(lack,), left="nothing")
