"""The only door through which HTTP leaves the process.

A tenant writes the URL that the gateway calls, so every URL is a request to reach something on the operator's
network until shown otherwise. It is looked at three times: as text when it is saved, as the addresses its name
resolves to, and as the socket address in the moment of connecting. The last one cannot be talked round by a name
server that changes its mind, nor by a literal address, for which no resolver is asked.
"""

import asyncio
import re
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import ClassVar, Final, NoReturn

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from trueport.kit.errors import TrueportError
from trueport.kit.ids import CredentialId, TenantId

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class UpstreamFailure(TrueportError):
    """A call to a provider that brought no usable answer.

    `counts_as_failure` says whether a circuit breaker should hold it against the target, `request_sent` whether
    the provider may have received (and billed) the request. Messages name neither URL, key nor provider text.
    """

    code = "upstream_failed"
    status = 502
    counts_as_failure: ClassVar[bool] = True

    def __init__(self, message: str, *, request_sent: bool = True) -> None:
        super().__init__(message)
        self.request_sent = request_sent


class EgressRefused(UpstreamFailure):
    """The gateway does not connect to this address, whoever asks."""

    code = "egress_refused"
    status = 502
    counts_as_failure = False

    def __init__(self, message: str = "The provider's address is not one this gateway connects to.") -> None:
        super().__init__(message, request_sent=False)


class UrlRefused(EgressRefused):
    """The text is not a URL that may be saved as a provider's or a webhook's address."""

    status = 400


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# IANA's special-purpose registry (RFC 6890 and successors), written out: what `is_global` says changed between
# patch releases of Python.
_NOT_PUBLIC_V4: Final = _networks(
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")
# Teredo, ORCHID and benchmarking; documentation; 6to4; documentation again; AS112.
_NOT_PUBLIC_V6: Final = _networks("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
# RFC 6052: what DNS64 answers with. The network-specific 64:ff9b:1::/48 hides its IPv4 address in a place only the
# operator knows, so it stays refused.
_NAT64: Final = IPv6Network("64:ff9b::/96")
# Where clouds hand out credentials. Some lie in public or merely private space; only a listed range opens them.
_METADATA: Final = _networks(
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::/32",
    "fd20:ce::/32",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
)
_NEVER: Final = _networks("0.0.0.0/32", "::/128", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8")

# Services that answer anything sent to them; no HTTP API lives there.
_FOREIGN_PORTS: Final = frozenset({
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526, 530,
    531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 873, 989, 990, 993, 995, 1080, 1433, 1521, 1719, 1720, 1723,
    2049, 2181, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 5672, 5900, 5984,
    5985, 5986, 6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6697, 7000, 7001, 8086, 9042, 9092,
    9200, 9300, 10250, 10255, 11211, 15672, 26379, 27017, 27018, 27019, 28017, 50000,
})  # fmt: skip
_SPECIAL_NAMES: Final = (
    *("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "home.arpa"),
    *("test", "invalid", "example", "onion", "arpa"),
)
_LOOPBACK: Final = _networks("127.0.0.0/8", "::1/128")

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?(?P<query>[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*))?"
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BAD_PATH: Final = re.compile(
    r"%(?![0-9A-Fa-f]{2})|%(?:[01][0-9A-Fa-f]|7[Ff]|2[EeFf]|5[Cc]|23|3[Ff])|//|/\.\.?(?:/|\Z)"
)
_LONGEST_URL: Final = 2_048


def is_public(address: Address) -> bool:
    """Whether `address` is ordinary unicast on the Internet: no special purpose, no IPv4 address in disguise.

    Mapped, compatible, 6to4 and Teredo forms are never public; a NAT64 address is what it embeds.
    """
    if isinstance(address, IPv4Address):
        return not _within(address, _NOT_PUBLIC_V4) and not _within(address, _METADATA)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _GLOBAL_UNICAST_V6 and not _within(address, _NOT_PUBLIC_V6)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What may be reached beyond the public Internet on port 443.

    `allow` holds CIDRs, single addresses and host names as text (the setting TRUEPORT_EGRESS_ALLOW). What it lists
    may be called without TLS and on any port but those of well-known other services. A listed name is trusted with
    private addresses but not with a cloud's metadata service: only a listed range opens that. With `requires_tls`
    nothing is called without TLS, listed or not.
    """

    allow: tuple[str, ...] = ()
    allow_plain_http_public: bool = False
    requires_tls: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for an entry that is neither a CIDR, an address nor a host name."""
        for entry in self.allow:
            if not isinstance(_entry(entry), str):
                continue
            if not _is_host_name(entry.lower()):
                raise ValueError(f"not a CIDR, an address or a host name: {entry!r}")

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple(entry for entry in map(_entry, self.allow) if not isinstance(entry, str))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(entry for entry in map(_entry, self.allow) if isinstance(entry, str))

    def needs_listing(self, scheme: str, port: int) -> bool:
        """Whether only a listed place may be called this way."""
        if scheme == "http":
            return not (self.allow_plain_http_public and port == 80)
        return port != 443

    def permits(self, address: Address, *, host: str, listed_only: bool) -> bool:
        """Whether a connection for `host` may go to `address`; `listed_only` when public space will not do."""
        if address.version == 6 and address.scope_id is not None:
            return False
        if _within(address, _NEVER):
            return False
        if _within(address, self.networks):
            return True
        if host in self.names and not _within(address, _METADATA) and not _embeds_ipv4(address):
            return True
        return not listed_only and is_public(address)


def _entry(text: str) -> Network | str:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        return text.strip().lower()


def _embeds_ipv4(address: Address) -> bool:
    """Whether an IPv6 address carries an IPv4 address that this side would have to look at."""
    if isinstance(address, IPv4Address):
        return False
    carries = address.ipv4_mapped or address.sixtofour or address.teredo
    return bool(carries) or address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1)


def _is_host_name(host: str) -> bool:
    if not 0 < len(host) <= 253:
        return False
    labels = host.split(".")
    return all(_LABEL.fullmatch(label) for label in labels) and _NUMBER.fullmatch(labels[-1]) is None


def parse_upstream_url(text: str, policy: EgressPolicy, *, query: bool = False) -> URL:
    """The URL of a provider or webhook, rebuilt from parts that were each looked at.

    Only https, and http where the policy lists the place; a query only where `query` says so (webhooks).
    Addresses are judged here; names are judged by what they resolve to, when connecting.

    Raises UrlRefused, whose message says what is wrong and repeats nothing of the text.
    """
    if len(text) > _LONGEST_URL:
        _refuse("The URL is longer than 2048 characters.")
    match = _URL.fullmatch(text)
    if match is None:
        _refuse("The URL must be https://host, with an optional port and path, in plain ASCII characters.")
    if match["query"] is not None and not query:
        _refuse("The URL must not contain a query.")
    path = match["path"] or "/"
    if _BAD_PATH.search(path):
        _refuse("The URL's path must not contain empty, dot or escaped path segments.")
    scheme, host = match["scheme"], match["host"].lower()
    default_port = 443 if scheme == "https" else 80
    port = int(match["port"] or default_port)
    if port > 65_535:
        _refuse("The URL's port is not a port.")
    authority = host if port == default_port else f"{host}:{port}"
    try:
        url = URL(f"{scheme}://{authority}{path}" + (f"?{match['query']}" if match["query"] else ""), encoded=True)
    except ValueError:
        _refuse("The URL's host is neither a host name nor an address in its usual form.")
    check_origin(url, policy)
    return url


def check_origin(url: URL, policy: EgressPolicy) -> None:
    """Look at scheme, host and port of `url`, whoever built it. Raises UrlRefused."""
    scheme, host, port = url.scheme, url.raw_host or "", url.port or 0
    if scheme not in {"https", "http"}:
        _refuse("The URL must begin with https://.")
    if scheme == "http" and policy.requires_tls:
        _refuse("The URL must begin with https://: this is a production installation.")
    if url.raw_user is not None or url.raw_password is not None or url.raw_fragment:
        _refuse("The URL must contain neither a user name, a password nor a fragment.")
    listed_only = policy.needs_listing(scheme, port)
    if not 0 < port < 65_536 or port in _FOREIGN_PORTS:
        _refuse("The URL's port is not one that HTTP services use.")
    literal = _literal(host)
    if literal is not None:
        allowed = policy.permits(literal, host=host, listed_only=listed_only)
    elif not _is_host_name(host):
        _refuse("The URL's host is neither a host name nor an address in its usual form.")
    else:
        allowed = host in policy.names or _may_resolve_well(host, policy, listed_only=listed_only)
    if not allowed:
        _refuse("The URL's host, scheme or port is not one this gateway connects to.")


def _may_resolve_well(host: str, policy: EgressPolicy, *, listed_only: bool) -> bool:
    """Whether an unlisted name could lead somewhere permitted; which addresses it has is for the resolver to say."""
    if host == "localhost" or host.endswith(".localhost"):
        return any(
            mine.version == loop.version and mine.overlaps(loop) for mine in policy.networks for loop in _LOOPBACK
        )
    if listed_only or "." not in host or any(host.endswith("." + name) for name in _SPECIAL_NAMES):
        return bool(policy.networks)
    return True


def _literal(host: str) -> Address | None:
    """The address that `host` spells in canonical form, or None for a name."""
    if ":" not in host and (host.count(".") != 3 or not host.replace(".", "").isdigit()):
        return None
    try:
        return ip_address(host)  # refuses leading zeros, so that no octal form gets by
    except ValueError:
        _refuse("The URL's host is not an address in its usual form.")


def _refuse(message: str) -> NoReturn:
    raise UrlRefused(message)


class RefusedAddress(OSError):
    """Raised where a socket would have been made; an OSError, because that is what connecting may raise."""


class _GuardedResolver(AbstractResolver):
    """Answers with those addresses of one host that the policy permits."""

    def __init__(self, inner: AbstractResolver, policy: EgressPolicy, *, listed_only: bool) -> None:
        self._inner = inner
        self._policy = policy
        self._listed_only = listed_only

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        permitted = [
            result
            for result in found
            if _is_permitted(result["host"], self._policy, host=host, listed_only=self._listed_only)
        ]
        if not permitted:
            raise EgressRefused
        return permitted

    async def close(self) -> None:
        """The inner resolver is shared and closed by its owner."""


def _is_permitted(text: object, policy: EgressPolicy, *, host: str, listed_only: bool) -> bool:
    try:
        address = ip_address(str(text))
    except ValueError:
        return False
    return policy.permits(address, host=host, listed_only=listed_only)


class Wire(ResponseHandler):
    """A connection to a provider. `is_kept` once a request has gone over it."""

    is_kept = False

    def expect_answer(self, *, has_body: bool) -> None:
        """Read what comes next as the answer to one request."""
        self.set_response_params(
            skip_payload=not has_body,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=65_536,
            max_line_size=8_190,
            max_field_size=8_190,
            max_headers=128,
        )

    async def drained(self) -> None:
        """Wait while more is unsent than should be. Raises OSError once the connection is gone."""
        await self._drain_helper()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Also tell the reader of a body when what follows is not HTTP.

        aiohttp 3.14 closes the connection then, but leaves a reader that is already in the body waiting for ever.
        """
        cause = exc if exc_cause is None else exc_cause
        super().set_exception(exc, cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(exc, cause)


class PoolKey(msgspec.Struct, frozen=True):
    """Whose connections these are. No two keys ever share one, so nothing bound to a connection crosses over."""

    tenant: TenantId
    credential: CredentialId


class Pool:
    """The connections of one key to one origin."""

    __slots__ = ("_connector", "_origin", "host", "idle_since_s", "in_flight")

    def __init__(self, connector: aiohttp.TCPConnector, url: URL) -> None:
        self._connector = connector
        # How a connector is told where to and how: all connections of a pool lead to the same place.
        self._origin = aiohttp.ClientRequest("GET", url.origin(), loop=asyncio.get_running_loop())
        self.host = self._origin.headers["Host"]
        self.in_flight = 0
        self.idle_since_s = time.monotonic()

    async def connect(self, patience: aiohttp.ClientTimeout) -> Connection:
        """A connection for one request: a kept one, or a new one within `patience.connect`.

        Raises what aiohttp raises, TimeoutError among it.
        """
        while True:
            connection = await self._connector.connect(self._origin, [], patience)
            if not self.wire_of(connection).should_close:
                return connection
            # Something came on it while nobody had asked, and would pass for the answer to the next request.
            connection.close()

    @staticmethod
    def wire_of(connection: Connection) -> Wire:
        wire = connection.protocol
        assert isinstance(wire, Wire)  # noqa: S101 - what the connector was told to make
        return wire

    @property
    def closed(self) -> bool:
        return self._connector.closed

    async def close(self) -> None:
        await self._connector.close()


class Egress:
    """Connections to providers, opened when first needed, separated per tenant, credential and origin.

    `most_pools` bounds how many idle ones are kept (least recently used go first; one with a call in flight is
    never closed). Connections are not counted here: how many calls run at once is settled at admission, and a
    second queue would only hide it. `tls` and `resolver` replace the system's certificates and name look-up.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        most_pools: int = 1_024,
        pool_idle_s: float = 300.0,
        keepalive_s: float = 30.0,
    ) -> None:
        self.policy = policy
        self._tls = tls
        self._resolver = resolver
        self._most_pools = most_pools
        self._pool_idle_s = pool_idle_s
        self._keepalive_s = keepalive_s
        self._pools: OrderedDict[tuple[PoolKey, str, str], Pool] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def lease(self, key: PoolKey, url: URL) -> Pool:
        """The pool for one call; give it back with `give_back`.

        Raises EgressRefused when the origin of `url` breaks the policy. Must run on the event loop.
        """
        place = (key, url.scheme, url.raw_authority)
        pool = self._pools.get(place)
        if pool is None:
            pool = self._open(place, url)
        self._pools.move_to_end(place)
        pool.in_flight += 1
        return pool

    def give_back(self, pool: Pool) -> None:
        pool.in_flight -= 1
        pool.idle_since_s = time.monotonic()

    async def check(self, url: URL) -> None:
        """Resolve the host of `url` now and raise EgressRefused unless something permitted answers to it.

        For saving a URL: connecting looks again, because the answer may change. Raises OSError when there is none.
        """
        check_origin(url, self.policy)
        host, port = url.raw_host or "", url.port or 0
        if _literal(host) is None:
            await self._guarded(url).resolve(host, port)

    async def close(self) -> None:
        """Close every connection, also those in use."""
        self._closed = True
        for pool in self._pools.values():
            self._retire(pool)
        self._pools.clear()
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    @property
    def pools(self) -> int:
        return len(self._pools)

    def _open(self, place: tuple[PoolKey, str, str], url: URL) -> Pool:
        if self._closed:
            raise EgressRefused("The gateway is shutting down.")
        try:
            check_origin(url, self.policy)
        except UrlRefused as error:
            # While saving this is the caller's mistake (400); in a call it is the gateway that cannot go on (502).
            raise EgressRefused from error
        self._make_room()
        pool = self._pools[place] = Pool(self._new_connector(url), url)
        return pool

    def _make_room(self) -> None:
        """Close idle pools: all that are past their time, and the oldest ones beyond the bound."""
        now_s = time.monotonic()
        surplus = len(self._pools) + 1 - self._most_pools
        for place, pool in list(self._pools.items()):
            outdated = now_s - pool.idle_since_s > self._pool_idle_s
            if surplus <= 0 and not outdated:
                break
            if pool.in_flight == 0:
                del self._pools[place]
                self._retire(pool)
                surplus -= 1

    def _retire(self, pool: Pool) -> None:
        task = asyncio.get_running_loop().create_task(pool.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _guarded(self, url: URL) -> _GuardedResolver:
        if self._resolver is None:
            self._resolver = ThreadedResolver()
        listed_only = self.policy.needs_listing(url.scheme, url.port or 0)
        return _GuardedResolver(self._resolver, self.policy, listed_only=listed_only)

    def _new_connector(self, url: URL) -> aiohttp.TCPConnector:
        policy, host = self.policy, url.raw_host or ""
        listed_only = policy.needs_listing(url.scheme, url.port or 0)

        def guarded_socket(info: AddressInfo) -> socket.socket:
            family, kind, protocol, _, address = info
            if not _is_permitted(address[0], policy, host=host, listed_only=listed_only):
                raise RefusedAddress("address refused")
            made = socket.socket(family, kind, protocol)
            # A provider that sends its stream in small writes stalls 40 ms per event against delayed ACKs otherwise.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made

        if self._tls is None:
            self._tls = client_tls()
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=self._tls,
            resolver=self._guarded(url),
            socket_factory=guarded_socket,
            keepalive_timeout=self._keepalive_s,
        )
        wire: type[ResponseHandler] = Wire
        connector._factory = partial(wire, loop=asyncio.get_running_loop())
        return connector


def client_tls() -> ssl.SSLContext:
    """TLS 1.2 or later, certificates and names verified against the system's authorities, HTTP/1.1 only."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
