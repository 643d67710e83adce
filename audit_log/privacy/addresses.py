"""The client's address, never one that the client may have made up."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from audit_log.conf import Network

_MAX_HEADER: Final = 4096
_MAX_HOPS: Final = 20


def parse(text: str) -> str | None:
    """One address out of `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def client_address(meta: Mapping[str, Any], trusted: int | tuple[Network, ...]) -> str | None:
    """Walk X-Forwarded-For from the right, past the proxies that are trusted.

    With 0 proxies the header is not looked at: whatever stands in it may be forged.
    """
    remote = parse(str(meta.get("REMOTE_ADDR") or ""))
    forwarded = str(meta.get("HTTP_X_FORWARDED_FOR") or "")
    if not trusted or not forwarded or len(forwarded) > _MAX_HEADER:
        return remote
    hops = forwarded.split(",")[-_MAX_HOPS:]
    if isinstance(trusted, int):
        # The last proxy adds the address it saw, the one before it another, and so on.
        return parse(hops[-trusted]) if len(hops) >= trusted else parse(hops[0])
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
