"""Requests and answers about archives."""

from dataclasses import asdict
from typing import Annotated

import msgspec
from msgspec import Meta

from trueport.domains.audit.placing.models import StoredPlace
from trueport.domains.audit.placing.probing import Probed
from trueport.domains.audit.placing.stores import place_of
from trueport.kit.clock import rfc3339
from trueport.storage.own_archives import ArchivePlace, Provider

Text = Annotated[str, Meta(max_length=256)]
SecretText = Annotated[str, Meta(max_length=16_384)]


class ArchiveCredentials(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What the provider asks for: `access_key_id` and `secret_access_key` (s3), `account_key` (azure),
    `service_account` (gcs: the JSON of a key file). Never shown again."""

    access_key_id: SecretText | None = None
    secret_access_key: SecretText | None = None
    account_key: SecretText | None = None
    service_account: SecretText | None = None

    def __repr__(self) -> str:
        return "ArchiveCredentials()"


class ChooseArchive(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A place for the archive.

    `location` is the store's own name of its region, such as eu-central-1, which s3 needs; `region` is that region in
    the words of the organisation's `regions`. `endpoint` is for what speaks S3 and is not Amazon, `account` for azure.
    Without `credentials` those are used that were given for the same place before.
    """

    provider: Provider
    bucket: Text = ""
    prefix: Text = ""
    location: Text = ""
    endpoint: Text = ""
    account: Text = ""
    region: Text = ""
    credentials: ArchiveCredentials | None = None

    def place(self) -> ArchivePlace:
        return ArchivePlace(
            self.provider, self.bucket, self.prefix, self.location, self.endpoint.rstrip("/"), self.account
        )

    def given(self) -> dict[str, str] | None:
        return None if self.credentials is None else msgspec.to_builtins(self.credentials)


class PlaceShown(msgspec.Struct, kw_only=True):
    """A place of the organisation's own, without its credentials."""

    id: str
    created_at: str
    provider: Provider
    bucket: str
    prefix: str
    location: str
    endpoint: str
    account: str
    region: str


class EarlierPlace(msgspec.Struct, kw_only=True):
    """Where archived segments lie besides the current place; `own` is null for the installation's archive."""

    own: PlaceShown | None
    segments: int


class ArchiveShown(msgspec.Struct, kw_only=True):
    """How far the archive is. `records` are in it and were read back; `retained_until` is the latest lock's end.

    `own` is the organisation's own place; null: the installation's archive, if there is one.
    """

    is_set: bool
    records: int
    newest_at: str | None
    retained_until: str | None
    own: PlaceShown | None
    earlier: list[EarlierPlace]


class ArchiveLack(msgspec.Struct):
    """Something that keeps the archive from doing what it is for."""

    code: str
    said: str


class ArchiveTested(msgspec.Struct, kw_only=True):
    """Whether the archive will do (`is_fit`) and what it lacks; whether it keeps its objects from being changed
    (`worm`), and how that is known; and what the test has left behind there."""

    is_fit: bool
    worm: bool
    why: str
    lacks: list[ArchiveLack]
    left: str


def show_place(stored: StoredPlace) -> PlaceShown:
    return PlaceShown(
        id=stored.id, created_at=rfc3339(stored.created_at), region=stored.region, **asdict(place_of(stored))
    )


def show_probed(probed: Probed) -> ArchiveTested:
    return ArchiveTested(
        is_fit=not probed.lacks,
        worm=probed.worm,
        why=probed.why,
        lacks=[ArchiveLack(each.code, each.said) for each in probed.lacks],
        left=probed.left,
    )
