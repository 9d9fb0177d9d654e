"""What protection is missing where other machines can connect. Pure."""

import ipaddress

from server.settings import ServerSettings


def exposure(settings: ServerSettings) -> str:
    """Return what is missing, and the flags that would add it; empty: nothing, or only this machine can connect."""
    if _is_loopback(settings.host):
        return ""
    authenticates = settings.accepted_tokens or settings.tls_client_ca
    missing = [
        *([] if settings.tls_certificate else ["TLS (--tls-certificate, --tls-key)"]),
        *([] if authenticates else ["tokens (--accepted-tokens)"]),
    ]
    return " and ".join(missing)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
