"""The application: what is answered at each address."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from starlette.datastructures import UploadFile

from meninx.bundle import Bundle
from meninx.errors import ImageError
from meninx.explain import draw_overlay
from meninx.serve.guards import SecurityHeaders, UploadLimit, require_token
from meninx.serve.upload import keep_for_a_moment

LARGEST_NUMBER_OF_FILES = 64


def app(bundle: Bundle, token: str | None = None) -> FastAPI:
    """Make the web application of a bundle.

    Parameters
    ----------
    bundle
        What answers.
    token
        With it, ``/predict`` and ``/card`` ask for ``Authorization: Bearer TOKEN``. Without it
        everyone who reaches the port is answered: then listen on this machine alone.

    Returns
    -------
    FastAPI
        ``GET /`` the page; ``POST /predict`` images as multipart form data, answered as
        `meninx predict --json` does, with each ``heatmap`` as a PNG data URI, or null where no
        place in the image spoke for the most probable class; ``GET /card`` what the bundle
        says about itself; ``GET /health``. Errors are JSON with one sentence, ``detail``:
        401 no or another token, 413 more than 64 MiB, 422 what cannot be read as an image.

    Raises
    ------
    MeninxError
        The token is empty.
    """
    # No pages of documentation: FastAPI's load scripts from elsewhere.
    application = FastAPI(title="Meninx", docs_url=None, redoc_url=None, openapi_url=None)
    application.add_middleware(UploadLimit)
    application.add_middleware(SecurityHeaders)
    needs_token = [Depends(require_token(token))]
    page = files("meninx.serve").joinpath("page.html").read_text(encoding="utf-8")
    # One image at a time: an explanation hooks into the network, and two would mix.
    turn = Lock()

    def answer(uploads: Sequence[UploadFile]) -> list[dict[str, Any]]:
        with turn:
            return [_predict_one(bundle, upload) for upload in uploads]

    @application.get("/", response_class=HTMLResponse)
    def show_page() -> str:
        return page

    @application.get("/health")
    def tell_health() -> dict[str, str]:
        return {"status": "ok"}

    @application.get("/card", dependencies=needs_token)
    def show_card() -> dict[str, Any]:
        return asdict(bundle.card)

    # The body is read here, not by FastAPI, which would read it before the token is checked.
    @application.post("/predict", dependencies=needs_token)
    async def predict(request: Request) -> list[dict[str, Any]]:
        async with _read_uploads(request) as uploads:
            return await run_in_threadpool(answer, uploads)

    return application


@asynccontextmanager
async def _read_uploads(request: Request) -> AsyncIterator[list[UploadFile]]:
    """Take the files of a form, under whatever field names; they are closed afterwards."""
    async with request.form(max_files=LARGEST_NUMBER_OF_FILES) as form:
        uploads = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not uploads:
            raise HTTPException(422, "No image came along: send one or more files as form data.")
        yield uploads


def _predict_one(bundle: Bundle, upload: UploadFile) -> dict[str, Any]:
    """Answer for one upload, in the words of `meninx predict --json`."""
    name = upload.filename or "image"
    with keep_for_a_moment(upload) as path:
        try:
            seen, prediction, heatmap = bundle.examine(path)
        except ImageError as error:
            raise HTTPException(422, _name_upload(str(error), path, name)) from None
    drawn = _as_data_uri(draw_overlay(seen, heatmap)) if heatmap.any() else None
    return prediction.describe(name, drawn)


def _name_upload(message: str, path: Path, name: str) -> str:
    """Put the client's name for a file in the place of ours, which means nothing to them."""
    return message.replace(str(path), name)


def _as_data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
