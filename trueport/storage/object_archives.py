"""Archives in object stores, as obstore speaks to all of them: written once, and without a promise of a lock."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore

from trueport.kit.errors import NotFound
from trueport.storage.archives import ArchiveUnavailable, Immutability, ObjectHead
from trueport.storage.documents import UnknownStorage

if TYPE_CHECKING:
    # obstore has these for checkers only.
    from obstore.store import AzureAccessKey, RetryConfig

# Short, because the job tries again by itself, and a person at the command line wants to know.
RETRY: Final["RetryConfig"] = {"max_retries": 1, "retry_timeout": timedelta(seconds=20)}


class ObjectArchive:
    """An archive in Azure Blob storage or Google Cloud storage."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def of(cls, url: str) -> "ObjectArchive":
        """`az://container/prefix` or `gs://bucket/prefix`. Raises UnknownStorage for what obstore does not take."""
        parts = urlsplit(url)
        prefix = parts.path.strip("/") or None
        try:
            if parts.scheme == "az":
                return cls(AzureStore(parts.netloc, prefix=prefix, retry_config=RETRY))
            return cls(GCSStore(parts.netloc, prefix=prefix, retry_config=RETRY))
        except (BaseError, ValueError) as error:
            raise UnknownStorage(f"The archive {parts.scheme}://{parts.netloc} cannot be opened.") from error

    @classmethod
    def azure(cls, account: str, container: str, prefix: str, key: str) -> "ObjectArchive":
        """Of an account with a key of its own; nothing is taken from the environment. Raises UnknownStorage."""

        def credential() -> "AzureAccessKey":
            return {"access_key": key, "expires_at": None}

        try:
            return cls(
                AzureStore(
                    container,
                    prefix=prefix or None,
                    account_name=account,
                    endpoint=f"https://{account}.blob.core.windows.net",
                    use_emulator=False,
                    credential_provider=credential,
                    retry_config=RETRY,
                )
            )
        except (BaseError, ValueError) as error:
            raise UnknownStorage(f"The archive az://{container} cannot be opened.") from error

    @classmethod
    def google(cls, bucket: str, prefix: str, service_account: str) -> "ObjectArchive":
        """With the key file of a service account, as JSON. Raises UnknownStorage for one that is none."""
        try:
            return cls(
                GCSStore(
                    bucket,
                    prefix=prefix or None,
                    service_account_key=service_account,
                    base_url="https://storage.googleapis.com",
                    retry_config=RETRY,
                )
            )
        except (BaseError, ValueError) as error:
            raise UnknownStorage(f"The archive gs://{bucket} cannot be opened.") from error

    async def immutability(self) -> Immutability:
        return Immutability(worm=False, why="this version neither sets nor reads the locks of this kind of store")

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        del locked_until
        try:
            await obstore.put_async(self._store, name, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return
        except BaseError as error:
            raise ArchiveUnavailable(type(error).__name__) from error

    async def get(self, name: str) -> bytes:
        try:
            found = await obstore.get_async(self._store, name)
            return bytes(await found.bytes_async())
        except FileNotFoundError as error:
            raise NotFound("There is no such object.") from error
        except BaseError as error:
            raise ArchiveUnavailable(type(error).__name__) from error

    async def head(self, name: str) -> ObjectHead:
        try:
            found = await obstore.head_async(self._store, name)
        except FileNotFoundError as error:
            raise NotFound("There is no such object.") from error
        except BaseError as error:
            raise ArchiveUnavailable(type(error).__name__) from error
        return ObjectHead(found["size"], locked_until=None)

    async def list(self, prefix: str) -> list[str]:
        found: list[str] = []
        try:
            async for page in obstore.list(self._store, prefix):
                found += [str(each["path"]) for each in page]
        except BaseError as error:
            raise ArchiveUnavailable(type(error).__name__) from error
        return sorted(found)

    async def hold(self, name: str, *, is_held: bool) -> bool:
        del name, is_held
        return False

    async def remove(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise ArchiveUnavailable(type(error).__name__) from error
