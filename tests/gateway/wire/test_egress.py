"""Where the gateway connects to, and where it does not, whoever asks and however it is spelled."""

import asyncio
import socket
from ipaddress import ip_address

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tests.support.chaos_upstream import ChaosUpstream, Exchange
from trueport.gateway.egress import (
    Egress,
    EgressPolicy,
    EgressRefused,
    PoolKey,
    UrlRefused,
    is_public,
    parse_upstream_url,
)
from trueport.gateway.upstream import Upstream, UpstreamConnect, UpstreamRequest
from trueport.kit.ids import CredentialId, TenantId

PUBLIC = EgressPolicy()
OFFICE = EgressPolicy(allow=("10.1.0.0/16", "vllm.corp", "fd12::/16"))
POOL = PoolKey(TenantId("ten_a"), CredentialId("crd_a"))

# Addresses that must never be reached uninvited, in every spelling of a URL's host.
FORBIDDEN_HOSTS = [
    # loopback and this host
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.1.2.3", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]", "localhost", "LOCALHOST", "foo.localhost", "localhost.localdomain",
    # private, shared, link-local, benchmarking, documentation, reserved, broadcast, multicast
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.1.254", "100.64.0.1",
    "100.127.255.255", "169.254.1.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
    "203.0.113.9", "192.88.99.1", "240.0.0.1", "255.255.255.255", "224.0.0.1", "239.255.255.250", "[ff02::1]",
    "[fe80::1]", "[fec0::1]", "[fc00::1]", "[fd12:3456::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]", "[5f00::1]",
    # metadata services
    "169.254.169.254", "169.254.170.2", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "[fd20:ce::254]", "metadata.google.internal", "metadata", "instance-data.ec2.internal",
    # IPv4 inside IPv6: mapped, compatible, NAT64, 6to4, Teredo, translated, ISATAP-like
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::127.0.0.1]",
    "[::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::10.0.0.1]",
    "[64:ff9b:1::808:808]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:0a00:0001::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[2001::1]", "[::ffff:0:127.0.0.1]",
    # decimal, hexadecimal, octal and short forms
    "2130706433", "3232235777", "2852039166", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE",
    "0177.0.0.1", "017700000001", "0177.0.0.01", "127.1", "127.0.1", "10.1", "0", "00", "0x0", "0x", "1", "127.0.0.1.1",
    "0251.0376.0251.0376", "169.254.43518", "127.0.0.01", "127.0.0.256", "127.000.000.001", "1.1.1.0x1",
    "foo.0x7f", "foo.127", "4294967297",
    # names of a network's inside
    "redis", "db.internal", "printer.local", "router.lan", "nas.home.arpa", "wiki.corp", "x.onion", "x.test",
    "x.invalid",
]  # fmt: skip

# Whole URLs that are refused for their form.
FORBIDDEN_URLS = [
    "", "https://", "https:///v1", "//api.openai.com/v1", "api.openai.com", "/v1", "https:api.openai.com",
    "https:/x.io",
    # schemes
    "http://api.openai.com/v1", "ftp://api.openai.com", "file:///etc/passwd", "gopher://api.openai.com", "javascript:1",
    "ws://api.openai.com", "wss://api.openai.com", "data:text/plain,x", "unix:///run/redis.sock", "https+unix://x.io",
    "http://8.8.8.8/", "http://api.openai.com:443/",
    # users, fragments, queries, confusing separators
    "https://user@api.openai.com/", "https://user:pass@api.openai.com/", "https://api.openai.com@127.0.0.1/",
    "https://127.0.0.1@api.openai.com/", "https://@api.openai.com/", "https://:@api.openai.com/",
    "https://api.openai.com#@127.0.0.1/", "https://api.openai.com/v1#x", "https://api.openai.com/v1?x=1",
    "https://api.openai.com?x", "https://api.openai.com\\@127.0.0.1/", "https:\\\\api.openai.com",
    "https://api.openai.com/\\..\\x", "https://api.openai.com;127.0.0.1/", "https://api.openai.com,127.0.0.1/",
    "https://api.openai.com 127.0.0.1/", "https://api.openai.com%00.evil.io/", "https://api.openai.com%2f@x.io/",
    "https://127%2e0%2e0%2e1/", "https://%6cocalhost/", "https://[::1%25lo]/", "https://[fe80::1%eth0]/",
    # white space and control characters
    " https://api.openai.com", "https://api.openai.com ", "https://api.openai.com/\n", "https://api.openai.com\n",
    "https://api.openai.com\t/", "https://api\r\n.openai.com", "https://api.openai.com/\x00",
    "https://api.openai.com/a b",
    # not ASCII
    "https://①②⑦.⓪.⓪.①/", "https://localhost。/", "https://ａｐｉ.openai.com/", "https://api.openai.com。evil.io/",
    "https://lоcalhost/", "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "https://127。0。0。1/", "https://api.openai.com/é", "https://１２７.0.0.1/",
    "https://[::ﬀff:127.0.0.1]/",
    # ports
    "https://api.openai.com:22/", "https://api.openai.com:6379/", "https://api.openai.com:80/", "https://api.openai.com:0/",
    "https://api.openai.com:65536/", "https://api.openai.com:99999/", "https://api.openai.com:8443/",
    "https://api.openai.com:-1/", "https://api.openai.com:4 43/", "https://api.openai.com:0x1bb/", "https://8.8.8.8:25/",
    "https://api.openai.com:/", "https://api.openai.com:443:443/", "https://api.openai.com:٤٤٣/",
    # hosts that are none
    "https://api..openai.com/", "https://.openai.com/", "https://api.openai.com./", "https://-api.openai.com/",
    "https://api-.openai.com/", "https://" + "a" * 64 + ".io/", "https://" + "a." * 130 + "io/", "https://*.openai.com/",
    "https://[api.openai.com]/", "https://[8.8.8.8]/", "https://::1/", "https://[::1/", "https://[]/", "https://[1::2::3]/",
    "https://api_.openai.com:443@x/", "https://{resource}.openai.azure.com/",
    # paths
    "https://api.openai.com/../admin", "https://api.openai.com/v1/..", "https://api.openai.com/./v1",
    "https://api.openai.com//v1", "https://api.openai.com/%2e%2e/admin", "https://api.openai.com/a%2fb",
    "https://api.openai.com/a%5cb", "https://api.openai.com/%00", "https://api.openai.com/%0d%0aX:1",
    "https://api.openai.com/%zz", "https://api.openai.com/%", "https://api.openai.com/%23x", "https://api.openai.com/%3fx",
    "https://api.openai.com/<x>", "https://api.openai.com/" + "a" * 2_100,
]  # fmt: skip

ACCEPTED = {
    "https://api.openai.com": "https://api.openai.com/",
    "https://api.openai.com/v1": "https://api.openai.com/v1",
    "https://API.OpenAI.com:443/v1/": "https://api.openai.com/v1/",
    "https://my-resource.openai.azure.com/openai/deployments/gpt-4o": (
        "https://my-resource.openai.azure.com/openai/deployments/gpt-4o"
    ),
    "https://8.8.8.8/v1": "https://8.8.8.8/v1",
    "https://[2606:4700::1111]/v1": "https://[2606:4700::1111]/v1",
    "https://xn--bcher-kva.example.com/v1": "https://xn--bcher-kva.example.com/v1",
    "https://host.io/a:b%20c/v1beta": "https://host.io/a:b%20c/v1beta",
}


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(set(FORBIDDEN_HOSTS)) >= 100
    assert len(set(FORBIDDEN_URLS)) >= 80


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_an_address_of_the_inside_is_refused_when_saved(host: str, scheme: str) -> None:
    with pytest.raises(UrlRefused) as caught:
        parse_upstream_url(f"{scheme}://{host}/v1", PUBLIC)
    assert (caught.value.code, caught.value.status) == ("egress_refused", 400)


@pytest.mark.parametrize("text", FORBIDDEN_URLS)
def test_a_url_of_the_wrong_form_is_refused_when_saved(text: str) -> None:
    with pytest.raises(UrlRefused):
        parse_upstream_url(text, PUBLIC)


@pytest.mark.parametrize("text", [u for u in FORBIDDEN_URLS if "?" not in u])
def test_a_listed_range_does_not_make_odd_forms_acceptable(text: str) -> None:
    if text.startswith(("http://api", "https://api.openai.com:80/", "https://api.openai.com:8443/")):
        return  # a name that may lead into the listed range; connecting decides
    with pytest.raises(UrlRefused):
        parse_upstream_url(text, OFFICE)


@pytest.mark.parametrize(("text", "url"), ACCEPTED.items())
def test_an_ordinary_url_is_accepted_and_rebuilt(text: str, url: str) -> None:
    assert str(parse_upstream_url(text, PUBLIC)) == url


def test_a_query_is_accepted_only_where_it_is_wanted() -> None:
    text = "https://hooks.example.com/x?token=abc"
    assert parse_upstream_url(text, PUBLIC, query=True).query_string == "token=abc"
    with pytest.raises(UrlRefused):
        parse_upstream_url(text, PUBLIC)


@pytest.mark.parametrize(
    "text",
    [
        "http://10.1.2.3:8000/v1", "https://10.1.2.3:8443", "http://vllm.corp:8000/v1", "http://VLLM.corp",
        "http://[fd12::1]:9000", "https://gpu.other.corp:8443/v1", "http://gpu:8000",
    ],
)  # fmt: skip
def test_a_listed_place_may_be_plain_http_on_any_port(text: str) -> None:
    parse_upstream_url(text, OFFICE)


@pytest.mark.parametrize(
    "text",
    ["http://10.2.0.1:8000", "http://10.1.2.3:6379", "http://vllm.corp:22", "http://8.8.8.8", "http://localhost:8000",
     "https://localhost", "http://127.0.0.1", "https://[::ffff:10.1.2.3]", "https://169.254.169.254", "http://10.1.1"],
)  # fmt: skip
def test_listing_one_place_opens_no_other(text: str) -> None:
    with pytest.raises(UrlRefused):
        parse_upstream_url(text, OFFICE)


def test_plain_http_to_the_public_must_be_switched_on() -> None:
    policy = EgressPolicy(allow_plain_http_public=True)
    parse_upstream_url("http://api.example.com/v1", policy)
    for text in ("http://10.0.0.1/", "http://api.example.com:8080/", "http://localhost/"):
        with pytest.raises(UrlRefused):
            parse_upstream_url(text, policy)


@pytest.mark.parametrize("entry", ["", "10.0.0.0/40", "https://x.io", "a b", "*.corp", "1.2.3", "host:80"])
def test_an_entry_that_lists_nothing_is_an_error_at_start(entry: str) -> None:
    with pytest.raises(ValueError, match="CIDR"):
        EgressPolicy(allow=(entry,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.8.8.8", True), ("1.1.1.1", True), ("172.32.0.1", True), ("100.128.0.1", True), ("2606:4700::1", True),
        ("64:ff9b::808:808", True), ("64:ff9b::7f00:1", False), ("2002:808:808::1", False), ("::ffff:8.8.8.8", False),
        ("2001:4860:4860::8888", True), ("2001:1ff::1", False), ("fe80::1%eth0", False), ("4000::1", False),
    ],
)  # fmt: skip
def test_public_means_ordinary_unicast(text: str, expected: bool) -> None:
    assert is_public(ip_address(text)) is expected


class FakeNames(AbstractResolver):
    """Answers each look-up of a name with the next of its answers, the last one again and again."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("__", ".").replace("_", "-"): given for name, given in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None: ...


def call(url: str, pool: PoolKey = POOL) -> UpstreamRequest:
    return UpstreamRequest("POST", URL(url), (), b"{}", pool)


@pytest.fixture
async def connects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that somebody tried to connect to; none of them is reached."""
    tried: list[str] = []

    async def sock_connect(_: object, __: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(type(asyncio.get_running_loop()), "sock_connect", sock_connect)
    return tried


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
async def test_an_address_of_the_inside_is_refused_when_connecting(host: str, connects: list[str]) -> None:
    """The URL did not come from the parser; names lead where the table of literals says they might."""
    names = FakeNames()
    names.answers = {name.lower(): [["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"]] for name in FORBIDDEN_HOSTS}
    egress = Egress(PUBLIC, resolver=names)
    try:
        url = URL(f"https://{host}/v1", encoded=True)
    except ValueError:
        return  # nothing can be asked to connect there
    with pytest.raises(EgressRefused) as caught:
        await Upstream(egress).send(UpstreamRequest("POST", url, (), b"{}", POOL))
    await egress.close()

    assert connects == []
    assert caught.value.status == 502


PRIVATE_ANSWERS = [["127.0.0.1"], ["::1"], ["10.0.0.1", "fd00::1"], ["169.254.169.254"], ["::ffff:10.0.0.1"],
                   ["64:ff9b::7f00:1"], ["fe80::1%eth0"], ["0.0.0.0"], ["not an address"]]  # fmt: skip


@pytest.mark.parametrize("answer", PRIVATE_ANSWERS)
async def test_a_public_name_with_private_addresses_is_refused(answer: list[str], connects: list[str]) -> None:
    egress = Egress(PUBLIC, resolver=FakeNames(api__evil__io=[answer]))
    with pytest.raises(EgressRefused):
        await Upstream(egress).send(call("https://api.evil.io/v1"))
    with pytest.raises(EgressRefused):
        await egress.check(URL("https://api.evil.io/v1"))
    await egress.close()

    assert connects == []


async def test_of_a_mixed_answer_only_the_public_addresses_are_tried(connects: list[str]) -> None:
    answer = ["10.0.0.1", "8.8.4.4", "::1", "127.0.0.1", "fd00::1", "2606:4700::1"]
    egress = Egress(PUBLIC, resolver=FakeNames(api__evil__io=[answer]))
    with pytest.raises(UpstreamConnect):
        await Upstream(egress).send(call("https://api.evil.io/v1"))
    await egress.close()

    assert set(connects) == {"8.8.4.4", "2606:4700::1"}


async def test_a_name_that_turns_private_after_it_was_saved_is_refused(connects: list[str]) -> None:
    egress = Egress(PUBLIC, resolver=FakeNames(api__evil__io=[["8.8.4.4"], ["127.0.0.1"]]))
    url = parse_upstream_url("https://api.evil.io/v1", PUBLIC)
    await egress.check(url)
    with pytest.raises(EgressRefused):
        await Upstream(egress).send(UpstreamRequest("POST", url, (), b"{}", POOL))
    await egress.close()

    assert connects == []


async def test_the_socket_looks_again_when_the_resolver_was_fooled(
    connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    egress = Egress(PUBLIC, resolver=FakeNames(api__evil__io=[["127.0.0.1"]]))

    async def unguarded(self: object, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        return await egress._resolver.resolve(host, port, family)  # type: ignore[union-attr]  # given above

    monkeypatch.setattr("trueport.gateway.egress._GuardedResolver.resolve", unguarded)
    with pytest.raises(EgressRefused):
        await Upstream(egress).send(call("https://api.evil.io/v1"))
    await egress.close()

    assert connects == []


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]"])
async def test_the_socket_looks_at_a_literal_address_too(
    host: str, connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No resolver is asked about it, so this is the last look that stands when the first is passed by."""
    monkeypatch.setattr("trueport.gateway.egress.check_origin", lambda *_: None)
    egress = Egress(PUBLIC)
    with pytest.raises(EgressRefused):
        await Upstream(egress).send(call(f"https://{host}/v1"))
    await egress.close()

    assert connects == []


async def test_a_plain_http_name_must_lead_into_the_listed_range(connects: list[str]) -> None:
    names = FakeNames(gpu__corp__io=[["8.8.8.8"]], box__corp__io=[["10.1.0.5", "10.2.0.5", "8.8.8.8"]])
    egress = Egress(OFFICE, resolver=names)
    with pytest.raises(EgressRefused):
        await Upstream(egress).send(call("http://gpu.corp.io:8000/v1"))
    with pytest.raises(UpstreamConnect):
        await Upstream(egress).send(call("http://box.corp.io:8000/v1"))
    await egress.close()

    assert connects == ["10.1.0.5"]


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
                                     "0.0.0.0", "224.0.0.1", "fe80::1", "::ffff:169.254.169.254"])  # fmt: skip
async def test_a_listed_name_does_not_open_the_metadata_service(address: str, connects: list[str]) -> None:
    egress = Egress(OFFICE, resolver=FakeNames(vllm__corp=[[address]]))
    with pytest.raises(EgressRefused):
        await Upstream(egress).send(call("http://vllm.corp:8000/v1"))
    await egress.close()

    assert connects == []


async def test_a_listed_name_may_lead_to_private_addresses(connects: list[str]) -> None:
    egress = Egress(OFFICE, resolver=FakeNames(vllm__corp=[["192.168.7.7"]]))
    with pytest.raises(UpstreamConnect):
        await Upstream(egress).send(call("http://vllm.corp:8000/v1"))
    await egress.close()

    assert connects == ["192.168.7.7"]


async def test_proxy_settings_of_the_environment_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    egress = Egress(EgressPolicy(allow=("127.0.0.1",)))
    async with ChaosUpstream({"/": Exchange.send_json}).running() as chaos:
        answer = await Upstream(egress).send(call(chaos.origin))
        assert await answer.read(100) == b'{"ok":true}'
    await egress.close()


def key(number: int) -> PoolKey:
    return PoolKey(TenantId(f"ten_{number}"), CredentialId("crd"))


async def test_pools_are_bounded_and_the_one_in_use_is_spared() -> None:
    egress = Egress(PUBLIC, most_pools=3)
    url = URL("https://api.openai.com/v1")
    busy = egress.lease(key(0), url)
    for number in range(1, 10):
        egress.give_back(egress.lease(key(number), url))

    assert egress.pools == 3
    assert not busy.closed
    assert egress.lease(key(0), url) is busy
    await egress.close()
    assert busy.closed


async def test_pools_that_were_idle_for_long_are_closed() -> None:
    egress = Egress(PUBLIC, pool_idle_s=0.01)
    url = URL("https://api.openai.com/v1")
    idle = egress.lease(key(1), url)
    egress.give_back(idle)
    await asyncio.sleep(0.05)
    egress.lease(key(2), url)
    await asyncio.sleep(0.01)

    assert egress.pools == 1
    assert idle.closed
    await egress.close()


async def test_each_origin_of_a_credential_is_looked_at() -> None:
    egress = Egress(PUBLIC)
    first = egress.lease(POOL, URL("https://api.openai.com/v1"))
    assert egress.lease(POOL, URL("https://api.openai.com/v2")) is first
    for text in ("https://u@api.openai.com/v1", "http://api.openai.com/v1", "https://api.openai.com:22/v1"):
        with pytest.raises(EgressRefused):
            egress.lease(POOL, URL(text))
    await egress.close()


async def test_nothing_is_opened_after_closing() -> None:
    egress = Egress(PUBLIC)
    await egress.close()
    with pytest.raises(EgressRefused):
        egress.lease(POOL, URL("https://api.openai.com/v1"))
