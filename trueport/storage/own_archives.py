"""Archives that somebody names at run time, each with credentials of its own and none of this process's environment.

Only S3 takes an address, because many speak its protocol: connections to it go where `permits` says. Accounts at Azure
and buckets at Google have an address that follows from their name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from trueport.kit.clock import Clock
from trueport.kit.errors import InvalidRequest
from trueport.kit.secret import Secret
from trueport.storage.archives import NEEDS_PACKAGE, ArchiveStore, FolderArchive
from trueport.storage.documents import UnknownStorage
from trueport.storage.s3_archives import Permits, S3Access, S3Archive

if TYPE_CHECKING:
    from trueport.storage.object_archives import ObjectArchive

Provider = Literal["folder", "s3", "azure", "gcs"]

CREDENTIALS: Final[Mapping[Provider, tuple[str, ...]]] = {
    "folder": (),
    "s3": ("access_key_id", "secret_access_key"),
    "azure": ("account_key",),
    "gcs": ("service_account",),
}
"""What each kind of store has to be given, all of it."""

# Names as their owners define them; whatever becomes part of an address or a signature is nothing else.
_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{1,61})[a-z0-9]")
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_LOCATION: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PREFIX: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.=-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*")
_LONGEST_PREFIX: Final = 200
_LONGEST_LOCATION: Final = 40


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Where an archive lies. Empty is what a provider does not have.

    bucket: a bucket, or a container of `account`. location: the store's own name of its region, which S3 signs with.
    endpoint: of what speaks S3 and is not Amazon, as `https://host`; empty: Amazon's in that region.
    """

    provider: Provider
    bucket: str = ""
    prefix: str = ""
    location: str = ""
    endpoint: str = ""
    account: str = ""

    @property
    def address(self) -> str:
        """Where connections for S3 go."""
        return self.endpoint or f"https://s3.{self.location}.amazonaws.com"


def check_place(place: ArchivePlace) -> None:
    """Raise InvalidRequest, naming the member, for what cannot be such a place."""
    is_s3 = place.provider == "s3"
    is_there = place.provider != "folder"
    for name, text, shape, is_wanted in (
        ("bucket", place.bucket, _BUCKET, is_there),
        ("account", place.account, _ACCOUNT, place.provider == "azure"),
        ("location", place.location, _LOCATION, is_s3),
    ):
        if not is_wanted and text and (name != "location" or not is_there):
            raise InvalidRequest(f"{place.provider} takes no {name}.", param=name)
        if (is_wanted or text) and (shape.fullmatch(text) is None or len(text) > 63):
            raise InvalidRequest(f"{name} is not what {place.provider} calls one.", param=name)
    if len(place.location) > _LONGEST_LOCATION:
        raise InvalidRequest("location is too long.", param="location")
    if place.endpoint and not is_s3:
        raise InvalidRequest(f"{place.provider} takes no endpoint.", param="endpoint")
    if place.prefix and (_PREFIX.fullmatch(place.prefix) is None or len(place.prefix) > _LONGEST_PREFIX):
        raise InvalidRequest("prefix has names of letters, digits, _ . = - with / between them.", param="prefix")


def check_credentials(provider: Provider, given: Mapping[str, str]) -> None:
    """Raise InvalidRequest unless it is exactly what the provider needs; the message repeats nothing of it."""
    wanted = CREDENTIALS[provider]
    if set(given) != set(wanted):
        needed = " and ".join(wanted) or "no credentials"
        raise InvalidRequest(f"{provider} takes {needed}.", param="credentials")
    for name, text in given.items():
        if not text or not text.isascii() or (name != "service_account" and not text.isprintable()):
            raise InvalidRequest(f"{name} is empty or holds characters that no credential has.", param="credentials")
    if provider == "gcs":
        _service_account(given["service_account"])


def open_place(
    place: ArchivePlace, credentials: Mapping[str, Secret], folder: Path, clock: Clock, permits: Permits
) -> ArchiveStore:
    """The archive at a place that was checked. folder: where one of kind `folder` is. Raises UnknownStorage."""
    match place.provider:
        case "folder":
            return FolderArchive(folder / place.prefix)
        case "s3":
            access = S3Access(
                place.address,
                place.location,
                credentials["access_key_id"].reveal(),
                credentials["secret_access_key"].reveal(),
                None,
            )
            return S3Archive(access, place.bucket, place.prefix, clock, permits=permits)
        case "azure":
            return _objects().azure(place.account, place.bucket, place.prefix, credentials["account_key"].reveal())
        case "gcs":
            key = _service_account(credentials["service_account"].reveal())
            return _objects().google(place.bucket, place.prefix, key)


def _objects() -> "type[ObjectArchive]":
    try:
        from trueport.storage.object_archives import ObjectArchive  # noqa: PLC0415  # obstore is optional
    except ImportError as error:
        raise UnknownStorage(NEEDS_PACKAGE) from error
    return ObjectArchive


def _service_account(text: str) -> str:
    """The key file of a service account with nothing in it that names an address. Raises InvalidRequest."""
    try:
        read = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise InvalidRequest("service_account is the JSON of a key file.", param="credentials") from error
    names = ("client_email", "private_key", "private_key_id")
    kept = {name: read.get(name) for name in names}
    if read.get("type") != "service_account" or not all(isinstance(each, str) and each for each in kept.values()):
        raise InvalidRequest("service_account is the key file of a service account.", param="credentials")
    return msgspec.json.encode({"type": "service_account", **kept}).decode()
