"""Where an image_url may lead: to the server itself, or to a host that worker.ini allows."""

from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urljoin

from urllib3.util import Url, parse_url

from worker.errors import ImageLost

MAX_URL = 8_000
MAX_QUOTED = 200
USUAL_PORTS = {"http": 80, "https": 443}
GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")  # how a network that has IPv6 alone reaches IPv4


def resolve_image_url(
    image_url: str, answered_by: str, allowed_hosts: Collection[str]
) -> tuple[str, bool]:
    """Give the whole URL, and whether it leads to the very origin that named it.

    ``answered_by``: the URL that named it. ``allowed_hosts``: ``host`` (at the usual port) or
    ``host:port``. Raises ImageLost if it leads to neither; that keeps a server from making us
    ask file:, cloud metadata or the neighbours inside our network.
    """
    try:
        # By the parser that the request goes through: two may read one URL differently.
        url = parse_url(urljoin(answered_by, image_url)) if len(image_url) <= MAX_URL else Url()
    except ValueError:
        url = Url()
    if url.scheme not in USUAL_PORTS or url.auth:
        raise _refused("is no http:// or https:// URL, too long, or holds a user")
    origin = _origin(url)
    ours = origin == _origin(parse_url(answered_by))
    scheme, host, port = origin
    names = {f"{host}:{port}"} | ({host} if port == USUAL_PORTS[scheme] else set())
    if not ours and names.isdisjoint(name.lower() for name in allowed_hosts):
        raise _refused(
            f"leads to {scheme}://{host[:MAX_QUOTED]}:{port}, which is neither [server] url nor "
            "among [server] allowed_hosts"
        )
    return url.url, ours


def expect_public(address: str, port: int, allowed_hosts: Collection[str]) -> None:
    """Raise ImageLost when a host of others has an address inside our network, or on this machine.

    ``address``: what its name was resolved to, just before it is connected to. Such an address has
    to be among ``allowed_hosts`` itself, also as a network (``10.1.0.0/16``): whoever owns an
    allowed name could otherwise lead us to cloud metadata or the neighbours.
    """
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if ip in NAT64:
        ip = IPv4Address(int(ip) & 0xFFFFFFFF)
    # Other ways to write an IPv4 address as an IPv6 one lead to no public host.
    inside = isinstance(ip, IPv6Address) and (ip not in GLOBAL_UNICAST or ip.sixtofour)
    if ip.is_global and not ip.is_multicast and not inside:
        return
    for name in allowed_hosts:
        with suppress(ValueError):  # it is a name
            if ip in ip_network(name.removesuffix(f":{port}").strip("[]")):
                return
    raise _refused(
        f"leads to the private address {ip}, which is not among [server] allowed_hosts itself"
    )


def _origin(url: Url) -> tuple[str, str, int]:
    scheme = url.scheme or ""
    return scheme, (url.host or "").lower(), url.port or USUAL_PORTS[scheme]


def _refused(reason: str) -> ImageLost:
    return ImageLost("refused_url", f"its image_url {reason}")
