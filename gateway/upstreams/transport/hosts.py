"""Whose machine a host's name stands for, as far as the name tells."""

import ipaddress

OWN_NAMES = ("localhost", "local", "internal")
"""Top labels that never lead to the Internet: RFC 6761 and RFC 6762; ICANN keeps the last for private use."""


def is_ours(host: str) -> bool:
    """Whether it is this machine or one of a private network. In doubt it is not: a name may lead anywhere."""
    name = host.strip("[]").rstrip(".").casefold()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.rpartition(".")[2] in OWN_NAMES
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_private or address.is_link_local
