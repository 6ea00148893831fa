"""Guards: who may ask, how much they may send, and what a browser may do with the answer."""

import secrets
from collections.abc import Callable

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meninx.errors import MeninxError

LARGEST_UPLOAD = 64 * 2**20
TOO_LARGE = f"The upload is larger than {LARGEST_UPLOAD // 2**20} MiB: send fewer or smaller files."

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self' 'unsafe-inline' data:; img-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # An answer holds a patient's image: no browser is to keep it.
    "Cache-Control": "no-store",
}


def require_token(token: str | None) -> Callable[[Request], None]:
    """Make the check of a request's bearer token; without a token all may pass.

    Raises
    ------
    MeninxError
        The token is empty: it was meant to protect, and would not.
    """
    if token is not None and not token.strip():
        raise MeninxError("the token is empty; set MENINX_TOKEN to a long random text, or unset it")

    def check(request: Request) -> None:
        if token is None:
            return
        # Header values are raw bytes, which Starlette shows as latin-1.
        header = request.headers.get("authorization", "").encode("latin-1")
        scheme, _, given = header.partition(b" ")
        is_right = secrets.compare_digest(given.strip(), token.strip().encode())
        if scheme.lower() != b"bearer" or not is_right:
            raise HTTPException(
                401,
                "This bundle is protected: send its token as Authorization: Bearer TOKEN.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check


class UploadLimit:
    """Refuse a request's body as soon as it is larger than allowed.

    Parameters
    ----------
    inner
        The application behind it.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI asks."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > LARGEST_UPLOAD:
            await JSONResponse({"detail": TOO_LARGE}, 413)(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_UPLOAD:
                raise HTTPException(413, TOO_LARGE)
            return message

        await self.inner(scope, receive_counted, send)


class SecurityHeaders:
    """Tell the browser to load nothing from elsewhere, to guess nothing and to keep nothing.

    Parameters
    ----------
    inner
        The application behind it.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI asks."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.inner(scope, receive, send_with_headers)
