"""Who is at the other end of the connection, and what name they called us by. Pure reading of ASGI headers."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from trueport.kit.errors import InvalidRequest

Headers = Iterable[tuple[bytes, bytes]]

SLUG: Final = r"^[a-z0-9](?:-?[a-z0-9]){1,61}$"
# Names under the base host that belong to the service itself. No tenant gets one of them.
RESERVED_SLUGS: Final = frozenset(
    {
        "abuse", "account", "accounts", "admin", "administrator", "api", "app", "apps", "assets", "auth",
        "autodiscover",
        "billing", "blog", "cdn", "console", "dashboard", "dev", "docs", "ftp", "gateway", "help", "hostmaster", "imap",
        "internal", "legal", "localhost", "login", "logout", "mail", "me", "metrics", "monitoring", "mx", "ns1", "ns2",
        "openai", "platform", "pop", "postmaster", "prod", "proxy", "public", "root", "sales", "schema", "security",
        "signup", "smtp", "sso", "staging", "static", "status", "support", "system", "test", "trueport", "trueportai",
        "trueportai-services", "webmail", "webmaster", "www",
    }
)  # fmt: skip

_SLUG: Final = re.compile(SLUG[:-1] + r"\Z")
_NAME: Final = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(
    rf"(?P<name>{_NAME}(?:\.{_NAME})*|\[[0-9a-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII
)


class InvalidHost(InvalidRequest):
    """The Host header is missing, doubled, malformed, or names somebody else."""

    code = "invalid_host"


@dataclass(frozen=True, slots=True)
class Host:
    """A validated Host header: its name in lower case, and the tenant's slug when it is a tenant's subdomain."""

    name: str
    slug: str | None


def header_values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value sent under `name` (lower case), in order."""
    return [value for key, value in headers if key.lower() == name]


def read_host(headers: Headers, base_host: str) -> Host:
    """The one Host the request names, checked against the public host.

    Accepted are the public host itself, `<slug>.<public host>`, IP addresses, and names of a single label such as
    `localhost` or a service name inside a cluster. Where the public host is a domain name, any other domain name is
    refused; where it is an address or a single label (development), other names pass and mean no tenant.
    Raises InvalidHost.
    """
    sent = header_values(headers, b"host")
    if len(sent) != 1:
        raise InvalidHost("A request carries exactly one Host header.")
    match = _HOST.fullmatch(sent[0].decode("latin-1").lower())
    if match is None:
        raise InvalidHost("The Host header is not a host name with an optional port.")
    name = match["name"]
    if name.startswith("[") or _is_address(name):
        if not _is_address(name.strip("[]")):
            raise InvalidHost("The Host header is not an address.")
        return Host(name, None)
    if name == base_host or "." not in name:
        return Host(name, None)
    label, _, parent = name.partition(".")
    if parent == base_host and not _is_address(base_host):
        if not is_slug(label):
            raise InvalidHost("The Host header names no possible tenant.")
        return Host(name, None if label in RESERVED_SLUGS else label)
    if "." in base_host and not _is_address(base_host):
        raise InvalidHost("The Host header names another service; TRUEPORT_PUBLIC_URL says what this one is called.")
    return Host(name, None)


def is_slug(text: str) -> bool:
    """Whether a tenant's slug could read so; reserved words included."""
    return _SLUG.match(text) is not None


def client_address(peer: tuple[str, int] | None, headers: Headers, trusted_proxies: Sequence[str]) -> str:
    """The address the request came from, or an empty string when the server does not know.

    `X-Forwarded-For` counts only from a trusted proxy, and is read from its right end up to the first address that
    is not itself a trusted proxy: what stands further left, the client could have written.
    """
    address = peer[0] if peer else ""
    if not trusted_proxies or not is_within(address, trusted_proxies):
        return address
    forwarded = ",".join(value.decode("latin-1") for value in header_values(headers, b"x-forwarded-for"))
    for hop in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
        if not _is_address(hop):
            return address
        address = hop
        if not is_within(hop, trusted_proxies):
            break
    return address


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Whether an address lies in one of the networks; an IPv4-mapped IPv6 address counts as the IPv4 address."""
    try:
        ip = _plain(ipaddress.ip_address(address))
    except ValueError:
        return False
    return any(ip in ipaddress.ip_network(network, strict=False) for network in networks)


def is_loopback(address: str) -> bool:
    try:
        return _plain(ipaddress.ip_address(address)).is_loopback
    except ValueError:
        return False


def _plain(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
