"""Tells private hosts from public ones by their name."""

import ipaddress

PRIVATE_TOP_LABELS = ("localhost", "local", "internal")
"""Top-level labels that are not on the Internet: RFC 6761 and RFC 6762; ICANN reserves the last for private
use."""


def is_private_host(host: str) -> bool:
    """Return whether the host is this machine or in a private network. Any other name counts as public."""
    name = host.strip("[]").rstrip(".").casefold()
    address = _read_address(name)
    if address is None:
        return name.rpartition(".")[2] in PRIVATE_TOP_LABELS
    return address.is_loopback or address.is_private or address.is_link_local


def is_loopback_host(host: str) -> bool:
    """Return whether the host is this machine by its name: a loopback address, or `localhost` (RFC 6761)."""
    name = host.strip("[]").rstrip(".").casefold()
    address = _read_address(name)
    return name.rpartition(".")[2] == "localhost" if address is None else address.is_loopback


def is_address(host: str) -> bool:
    """Return whether the host is an IP address, not a name."""
    return _read_address(host.strip("[]")) is not None


def _read_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that `name` is, unmapped if it is an IPv4 address in IPv6; None if it is a name."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
