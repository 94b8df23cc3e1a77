"""The page's server: takes files, tells how far they are, and shows results. For this machine's own browser."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from piano_assets.web.jobs import Job, Jobs, QueueFull

MOST_BYTES = 300 * 2**20
"""Of an upload: half an hour in CD quality."""
LEAST_FREE = 2 * 2**30
"""Bytes that stay free on the disk."""
ASKED_BY_PAGE = "x-piano"
"""A header that only this page's own script can set: a page of another origin that tries is stopped by the browser."""
_CSP = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
    "frame-src 'self'"
)
_HEADERS = {"content-security-policy": _CSP, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_HERE = Path(__file__).parent


def app(jobs: Jobs) -> Starlette:
    """The application. Requests are answered for the names of this machine only, whatever leads to it."""

    async def start(_: Request) -> Response:
        return HTMLResponse((_HERE / "page.html").read_text(), headers=_HEADERS)

    async def script(_: Request) -> Response:
        return Response((_HERE / "page.js").read_text(), media_type="text/javascript", headers=_HEADERS)

    async def listed(_: Request) -> Response:
        return JSONResponse(jobs.told(), headers=_HEADERS | {"cache-control": "no-store"})

    async def take(request: Request) -> Response:
        if ASKED_BY_PAGE not in request.headers:
            return _no(403, "Files are taken from this page alone.")
        if shutil.disk_usage(jobs.folder).free < LEAST_FREE + MOST_BYTES:
            return _no(507, "The disk is almost full. Remove something, then try again.")
        try:
            job = jobs.place(request.query_params.get("name", ""))
        except QueueFull as error:
            return _no(503, str(error))
        refused = await _received(request, job)
        if refused is not None:
            jobs.drop(job)
            return refused
        jobs.submit(job)
        return JSONResponse({"number": job.number}, status_code=202, headers=_HEADERS)

    async def result(request: Request) -> Response:
        job = jobs.get(request.path_params["number"])
        if job is None or job.found is None:
            return _no(404, "There is no such result.")
        if job.found.page is None or job.found.scores is None:
            return _no(404, job.found.refused or "There is no such result.")
        if request.path_params["form"] == "json":
            return JSONResponse(job.found.scores, headers=_HEADERS)
        return HTMLResponse(job.found.page, headers=_HEADERS | {"content-security-policy": f"{_CSP}; sandbox"})

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        jobs.close()

    return Starlette(
        routes=[
            Route("/", start),
            Route("/page.js", script),
            Route("/recordings", listed),
            Route("/recordings", take, methods=["POST"]),
            Route("/recordings/{number}/{form}", result),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])],
        lifespan=life,
    )


async def _received(request: Request, job: Job) -> Response | None:
    """Write the request's body to the job's file, as it comes; an answer where it is refused."""
    n_bytes = 0
    try:
        with job.path.open("xb") as file:
            async for chunk in request.stream():
                n_bytes += len(chunk)
                if n_bytes > MOST_BYTES:
                    return _no(
                        413, f"{job.name} has over {MOST_BYTES // 2**20} MB. Bring one piece, or a smaller format."
                    )
                file.write(chunk)
    except ClientDisconnect:
        return _no(400, f"{job.name} did not come whole.")
    return None


def _no(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status, headers=_HEADERS)
