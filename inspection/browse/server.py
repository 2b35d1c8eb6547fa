"""`pairloom browse`: pages over datasets on this machine's own address, behind a token, from Parquet in place."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from inspection import report as drawn
from inspection import templates as shared_templates
from inspection.browse import data as opening
from inspection.browse import site as parts
from inspection.browse.data import Data
from inspection.browse.pages import PAGES
from inspection.browse.rules import Curating
from inspection.flow import Flow
from pairloom.errors import InputError, PairloomError

HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"
CHARTS = Path(drawn.__file__).parent  # whose charts and their style are the report's
STATIC = {
    "browse.css": "text/css", "charts.css": "text/css", "browse.js": "text/javascript", "icon.svg": "image/svg+xml",
}  # fmt: skip
ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    b'<path d="M2 2h5v12H2zm7 0h5v12H9z" fill="#1f56b3"/></svg>'
)
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address holds the token
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


def application(paths: Sequence[Path], flow: Flow, curating: Curating, token: str) -> Guarded:
    """The pages about these datasets, all below /token/. Raises StoreError where one has no table."""
    connection = opening.connect(paths)
    site = parts.Site([opening.open_data(path, flow, connection) for path in paths], curating)
    environment = templates()

    def route(path: str, page: parts.Page) -> Route:
        def answer(request: Request) -> Response:
            try:
                found = page(site, request.query_params)
            except PairloomError as error:
                what, where, fix = error.args[:3]
                html = environment.get_template("error.html.j2")
                return HTMLResponse(html.render(site=site, d=_first(site), what=what, where=where, fix=fix), 400)
            return respond(environment, site, found)

        return Route(path, answer)

    routes = [route(f"/{name}", page) for name, page in PAGES.items()]
    routes.append(Route("/static/{name}", _static))
    return Guarded(Starlette(routes=[Mount(f"/{token}", routes=routes)]), site)


def _first(site: parts.Site) -> Data:
    return site.datasets[0]


def respond(environment: jinja2.Environment, site: parts.Site, found: parts.Answer) -> Response:
    if isinstance(found, parts.Shown):
        html = environment.get_template(f"{found.template}.html.j2").render(site=site, **found.values)
        return HTMLResponse(html)
    if isinstance(found, parts.Sent):
        headers = {"content-disposition": f'attachment; filename="{found.name}"'} if found.name else {}
        if found.keep:
            headers["cache-control"] = "private, max-age=3600"
        return Response(found.content, media_type=found.media_type, headers=headers)
    return RedirectResponse(found.address, 303)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("not found", 404)
    folder = CHARTS if name == "charts.css" else HERE
    content = ICON if name == "icon.svg" else (folder / name).read_bytes()
    return Response(content, media_type=STATIC[name])


def templates() -> jinja2.Environment:
    environment = shared_templates.environment(HERE, CHARTS)
    environment.filters["query"] = parts.query_string
    return environment


class Guarded:
    """Answers only what is asked of this machine's own names, and adds the headers that keep pages to themselves.

    A foreign page whose name leads to 127.0.0.1 has another Host, and is refused.
    """

    def __init__(self, inner: Starlette, site: parts.Site) -> None:
        self._inner, self._site = inner, site

    def close(self) -> bool:
        """Stop what is being read for pages. Whether all has ended."""
        self._site.scans.close()
        return not self._site.jobs.busy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").rpartition(":")[0]
        if host not in (LOOPBACK, "localhost") or scope["method"] not in ("GET", "HEAD"):
            await PlainTextResponse("forbidden", 403)(scope, receive, send)
            return

        async def guarded(message: Scope) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._inner(scope, receive, guarded)


def serve(paths: Sequence[Path], flow: Flow, curating: Curating, port: int, ready: Callable[[str], None]) -> None:
    """Show these datasets until the process is interrupted. port: 0 for any that is free; ready: told the address.

    Raises InputError where the port is taken.
    """
    token = secrets.token_urlsafe(24)
    site = application(paths, flow, curating, token)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
    except OSError as error:
        listening.close()
        raise InputError(
            f"port {port} cannot be used: {error.strerror}", LOOPBACK, "name another with --port"
        ) from error
    ready(f"http://{LOOPBACK}:{listening.getsockname()[1]}/{token}/")
    server = uvicorn.Server(uvicorn.Config(site, log_level="warning", lifespan="off", ws="none"))
    try:
        server.run(sockets=[listening])
    finally:
        if not site.close():
            os._exit(0)  # a thread in the middle of a table would end the interpreter's last steps with an abort
