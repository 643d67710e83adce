"""The client's address, never one that the client may have made up."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from audit_log.conf.requests import Network

ADDRESS_HEADERS: Final = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR")
"""All of `request.META` that `client_address` reads."""

_MAX_HEADER: Final = 4096
_MAX_HOPS: Final = 20


def parse(text: str) -> str | None:
    """One address out of `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`; None for anything else.

    An IPv4 address in IPv6 clothes (`::ffff:1.2.3.4`, what a dual-stack socket reports) is the
    IPv4 address. A zone (`fe80::1%eth0`) is dropped: anything at all may stand in it.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def client_address(meta: Mapping[str, Any], trusted: int | tuple[Network, ...]) -> str | None:
    """Walk X-Forwarded-For from the right, past the proxies that are trusted.

    With 0 proxies the header is not looked at: whatever stands in it may be forged. Neither is one
    with fewer entries than there are proxies: the request came around some of them, so the client
    may have written all of it. What then counts is who is connected to us.
    """
    remote = parse(str(meta.get("REMOTE_ADDR") or ""))
    # The right end is the proxies'; no length on the left may push it out of sight.
    forwarded = str(meta.get("HTTP_X_FORWARDED_FOR") or "")[-_MAX_HEADER:]
    if not trusted or not forwarded:
        return remote
    hops = forwarded.split(",")[-_MAX_HOPS:]
    if isinstance(trusted, int):
        # The last proxy adds the address it saw, the one before it another, and so on.
        return parse(hops[-trusted]) if len(hops) >= trusted else remote
    if remote is None or not _inside(remote, trusted):
        return remote
    for hop in reversed(hops):
        address = parse(hop)
        if address is None or not _inside(address, trusted):
            return address
    return parse(hops[0])


def _inside(address: str, networks: tuple[Network, ...]) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed.version == net.version and parsed in net for net in networks)


def network_of(address: str) -> str | None:
    """The /24 of an IPv4 address, the /48 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    prefix = 24 if isinstance(parsed, ipaddress.IPv4Address) else 48
    return str(ipaddress.ip_network(f"{parsed}/{prefix}", strict=False))
