"""Tells private hosts from public ones by their name."""

import ipaddress

PRIVATE_TOP_LABELS = ("localhost", "local", "internal")
"""Top-level labels that are not on the Internet: RFC 6761 and RFC 6762; ICANN reserves the last for private
use."""


def is_private_host(host: str) -> bool:
    """Return whether the host is this machine or in a private network. Any other name counts as public."""
    name = host.strip("[]").rstrip(".").casefold()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.rpartition(".")[2] in PRIVATE_TOP_LABELS
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_private or address.is_link_local
