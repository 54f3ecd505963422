"""Which addresses are public, and which URLs a guarded sender does not request at all."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hookmill.sending.public_addresses import fault_of_public_url, is_public

SPECIAL = [
    # The registries of special-purpose addresses of IANA, for IPv4 and IPv6.
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "224.0.0.0/4", "::/128", "::1/128",
    "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/32", "2001:2::/48", "2001:db8::/32",
    "2001:10::/28", "2001:20::/28", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7",
    "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip

METADATA = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"]
"""Where clouds tell a machine its credentials."""

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "223.255.255.255", "172.15.255.255", "100.63.9.9"]
PUBLIC_V6 = ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:80b::200e"]


@pytest.mark.parametrize("network", SPECIAL)
def test_no_address_of_a_special_network_is_public(network: str) -> None:
    found = ip_network(network)
    assert not is_public(str(found[0]))
    assert not is_public(str(found[-1]))


@pytest.mark.parametrize("address", METADATA)
def test_the_metadata_services_of_clouds_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_V6)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)
    host = f"[{address}]" if ":" in address else address
    assert fault_of_public_url(f"https://{host}/hook") == ""


v4 = st.one_of(
    st.ip_addresses(v=4),
    st.sampled_from([one for one in SPECIAL if ":" not in one])
    .map(IPv4Network)
    .flatmap(lambda one: st.integers(int(one[0]) - 1, int(one[-1]) + 1))
    .filter(lambda number: 0 <= number < 2**32)
    .map(IPv4Address),
)


@given(v4)
def test_what_is_public_is_global_for_python_too(address: IPv4Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


@given(st.ip_addresses(v=6))
@example(ip_address("ff0e::1"))
def test_what_is_public_in_ipv6_is_global_for_python_too(address: IPv6Address) -> None:
    if is_public(str(address)) and not address.ipv4_mapped:
        assert address.is_global
        assert not address.is_multicast


@given(v4)
def test_an_address_in_another_is_judged_by_what_is_reached_in_the_end(
    address: IPv4Address,
) -> None:
    for outer in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(outer) == is_public(str(address))
    for outer in (f"::{address}", f"2002:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}::"):
        assert not is_public(outer)


@given(st.ip_addresses(v=6), st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True))
def test_an_address_with_a_zone_is_not_public(address: IPv6Address, zone: str) -> None:
    assert not is_public(f"{address}%{zone}")
    assert fault_of_public_url(f"http://[{address}%25{zone}]/")


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """An IPv4 address as `inet_aton` reads it: one to four parts, decimal, octal or hex."""
    number, count = int(draw(v4)), draw(st.integers(1, 4))
    shifts = [24, 16, 8][: count - 1]
    parts = [number >> shift & 255 for shift in shifts] + [number & (1 << 40 - 8 * count) - 1]
    forms = ["{}", "0{:o}", "00{:o}", "0x{:x}", "0X{:X}", "0x0{:x}"]
    return ".".join(draw(st.sampled_from(forms)).format(part) for part in parts)


@given(spellings(), st.sampled_from(["", "."]))
@example("2130706433", "")
@example("127.1", "")
@example("0x7f.0.0.1", ".")
@example("017700000001", "")
def test_an_ipv4_address_counts_only_as_four_decimal_numbers(text: str, dot: str) -> None:
    read = IPv4Address(socket.inet_aton(text))
    if text == str(read) and not dot:
        assert (fault_of_public_url(f"http://{text}/") == "") == is_public(text)
    else:
        assert fault_of_public_url(f"http://{text}{dot}/")
        assert not is_public(f"{text}{dot}")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://user@example.org/", "username"),
        ("http://user:password@example.org/", "username"),
        ("http://@example.org/", "username"),
        ("http://example.org:22/", "port"),
        ("http://example.org:25/", "port"),
        ("http://1.1.1.1:1/", "port"),
        ("http://256.256.256.256/", "address"),
        ("http://1.1.1.0x/", "address"),
        ("http://example.1/", "address"),
    ],
)
def test_what_no_subscriber_needs_is_refused(url: str, fault: str) -> None:
    assert fault in fault_of_public_url(url)


@pytest.mark.parametrize("url", ["https://a.example", "http://a.example:80/x", "https://b:8443/?1"])
def test_a_host_name_may_be_tried(url: str) -> None:
    assert fault_of_public_url(url) == ""
