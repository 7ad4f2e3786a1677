"""Fetching one image from a web server."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request

from multispace.errors import ImageError, without_password
from multispace.version import SOFTWARE, package_version

MAX_BYTES = 64 << 20
MAX_SECONDS = 120.0  # for the whole image, however slowly it arrives
SOCKET_SECONDS = 20.0  # without any answer
BLOCK = 1 << 16


def fetch_image(url: str) -> bytes:
    """Return the bytes at ``url``, which no one has decoded yet.

    :param url: an ``http://`` or ``https://`` address; redirects to other schemes are refused
    :raises ImageError: the server cannot be reached or refuses, or the content has more than
        ``MAX_BYTES`` bytes or takes longer than ``MAX_SECONDS``.
    """
    where = without_password(url)
    agent = {"User-Agent": f"{SOFTWARE}/{package_version()}"}
    try:
        if "@" in urllib.parse.urlsplit(url).netloc:
            raise ImageError(
                "addresses with a password are not fetched", where=where, hint="download it first"
            )
        request = urllib.request.Request(url, headers=agent)
        with _web_only().open(request, timeout=SOCKET_SECONDS) as response:
            content = _read(response, where)
    except urllib.error.HTTPError as error:
        raise ImageError(
            f"the server answers {error.code} {error.reason}", where=where, hint="check the URL"
        ) from error
    except urllib.error.URLError as error:
        raise ImageError(f"cannot be fetched ({error.reason})", where=where) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"cannot be fetched ({reason})", where=where) from error
    if not content:
        raise ImageError("the server sends an empty file", where=where)
    return content


def _read(response: http.client.HTTPResponse, where: str) -> bytes:
    deadline = time.monotonic() + MAX_SECONDS
    content = bytearray()
    while block := response.read1(BLOCK):
        content += block
        if len(content) > MAX_BYTES:
            raise ImageError(f"more than {MAX_BYTES} bytes, the limit for an image", where=where)
        if time.monotonic() > deadline:
            raise ImageError(f"not complete after {MAX_SECONDS:g} seconds", where=where)
    if response.length:  # bytes that were promised and did not come
        raise ImageError(f"ended {response.length} bytes early", where=where, hint="try again")
    return bytes(content)


def _web_only() -> urllib.request.OpenerDirector:
    """Return an opener without the handlers of ``file:`` and ``ftp:``."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
