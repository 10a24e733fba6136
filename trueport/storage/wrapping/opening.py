"""From a URL to what wraps keys there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote

from yarl import URL

from trueport.kit.clock import Clock
from trueport.storage.wrapping.aws import AwsKmsWrapper
from trueport.storage.wrapping.azure import AzureKeyVaultWrapper
from trueport.storage.wrapping.base import KeyWrapper, UnknownWrapper
from trueport.storage.wrapping.files import FileWrapper
from trueport.storage.wrapping.vault import VaultWrapper

FORMS: Final = (
    "file:///path, aws-kms://KEY?region=…, azure-kv://NAME.vault.azure.net/KEY, vault://HOST:8200/transit/KEY"
)
_VAULT_PORT: Final = 8200


def open_wrapper(url: str, clock: Clock) -> KeyWrapper:
    """What the URL names; nothing is asked of it yet. Raises UnknownWrapper.

    aws-kms: KEY is an id, an alias or an ARN; `endpoint=` is where KMS answers if not at AWS. azure-kv, vault: `tls=0`
    is for a server on this machine.
    """
    scheme, _, rest = url.partition("://")
    # Not parsed as a URL: an ARN holds colons where a URL has its port.
    place, _, query = rest.partition("?")
    said = {name: values[-1] for name, values in parse_qs(query).items()}
    try:
        match scheme:
            case "file" if place.startswith("/"):
                return FileWrapper(Path(unquote(place)))
            case "aws-kms" if place and "region" in said:
                endpoint = URL(said["endpoint"]) if "endpoint" in said else None
                return AwsKmsWrapper(place, said["region"], endpoint, clock)
            case "azure-kv":
                return _azure(_address(place, said))
            case "vault":
                return _vault(_address(place, said))
    except ValueError as error:
        raise _unknown() from error
    raise _unknown()


def _address(place: str, said: Mapping[str, str]) -> URL:
    return URL(f"{'http' if said.get('tls') == '0' else 'https'}://{place}")


def _azure(address: URL) -> AzureKeyVaultWrapper:
    """Raises ValueError when host or name are missing."""
    _, name = address.parts
    if not address.host or not name:
        raise ValueError("a key in Azure Key Vault has a host and a name")
    return AzureKeyVaultWrapper(address.origin(), name)


def _vault(address: URL) -> VaultWrapper:
    """Raises ValueError when host, mount or name are missing."""
    _, mount, name = address.parts
    if not address.host or not name:
        raise ValueError("a key in Vault has a host, a mount and a name")
    port = address.explicit_port or _VAULT_PORT
    return VaultWrapper(URL.build(scheme=address.scheme, host=address.host, port=port), mount, name)


def _unknown() -> UnknownWrapper:
    return UnknownWrapper(f"What wraps keys is one of {FORMS}.")
