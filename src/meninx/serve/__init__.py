"""Serving: a bundle as a small REST interface and one web page.

It stands on top of the bundle, at the end of the flow, and holds no logic of its own. In come
a bundle and, over HTTP, images; out go the bundle's answers. An image is kept in a private
temporary file for as long as it takes to answer, and is named in no log.
"""

from importlib.util import find_spec

from meninx.errors import MeninxError

if not all(map(find_spec, ("fastapi", "python_multipart", "uvicorn"))):
    raise MeninxError("serving needs packages that are not installed: pip install 'meninx[serve]'")

from meninx.serve.application import app
from meninx.serve.server import serve

__all__ = ["app", "serve"]
