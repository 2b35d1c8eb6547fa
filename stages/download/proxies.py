"""Refuses to pass by a proxy that the environment names, unless that is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from pairloom.errors import ConfigError
from stages.download.address import without_credentials

SCHEMES = ("http", "https", "all")


def refuse_proxy(proxies: Mapping[str, str]) -> None:
    """Raise ConfigError if http or https would go through a proxy; proxies: by scheme, as urllib.request finds them.

    A proxy looks names up by itself, so nobody here could check the address that a picture really comes from.
    """
    found = [scheme for scheme in SCHEMES if proxies.get(scheme)]
    if found:
        named = ", ".join(f"{scheme}_proxy is {without_credentials(proxies[scheme])}" for scheme in found)
        raise ConfigError(
            f"{named}, but download connects to hosts directly: behind a proxy it could not check their addresses",
            where="the environment",
            fix="set download.ignore_proxy to true if hosts can be reached directly, or unset the variable",
        )
