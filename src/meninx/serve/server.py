"""The server: the application on a port of this machine."""

import ipaddress

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware

from meninx.bundle import Bundle
from meninx.errors import MeninxError
from meninx.serve.application import app

# What a browser on this machine calls it.
LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def serve(
    bundle: Bundle, host: str = "127.0.0.1", port: int = 8000, token: str | None = None
) -> None:
    """Serve a bundle until interrupted.

    Parameters
    ----------
    bundle
        What answers.
    host
        Address to listen on.
    port
        Port to listen on.
    token
        What clients must send; see :func:`meninx.serve.app`.

    Raises
    ------
    MeninxError
        Other machines could reach it and there is no token, or the token is empty.
    """
    if token is None and not _is_loopback(host):
        raise MeninxError(
            f"serving on {host} lets other machines in: set MENINX_TOKEN to a long random text, "
            "or serve on 127.0.0.1"
        )
    application = app(bundle, token)
    if token is None:
        # A foreign page can have its own name point at 127.0.0.1 (DNS rebinding) and so read
        # answers as if they were its own; it cannot change the name that the browser sends.
        application.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK_NAMES, host])
    uvicorn.run(application, host=host, port=port, access_log=False, server_header=False)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may mean any machine
        return False
