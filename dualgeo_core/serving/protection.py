"""What every response carries and every request must have: security headers, the token, the page's own origin."""

import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dualgeo_core.serving.refusals import Refused

# Pictures are part of the answer (data:); nothing comes from another host.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Adds HEADERS to every response, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, with_headers)


def require_token(request: Request, token: str | None) -> None:
    """Raises Refused if the service has a token and the request does not carry it."""
    if token is None:
        return
    given = request.headers.get("authorization", "").encode("latin-1", errors="replace")
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise Refused(401, "the API token is missing or wrong; send it as `Authorization: Bearer TOKEN`")


def require_own_origin(request: Request) -> None:
    """Raises Refused if another site's page makes the browser send this request."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Refused(403, "requests from pages of other sites are refused")


def require_known_host(request: Request, hosts: Sequence[str] | None) -> None:
    """Raises Refused if the request names another host, as after DNS rebinding; None allows all."""
    named = urlsplit(f"//{request.headers.get('host', '')}").hostname
    if hosts is not None and named not in hosts:
        raise Refused(421, "the request names another host; use the address that `dualgeo serve` prints")
