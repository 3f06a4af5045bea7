"""/docs, /redoc, /openapi.json and /problems/*: for people, from this process alone (no CDN)."""

from __future__ import annotations

import html
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse
from markdown_it import MarkdownIt

from lakegate_gateway.deps import Opened
from lakegate_gateway.errors import NotFound

router = APIRouter(include_in_schema=False)

# The two viewers are whole in these files; their styles are set from scripts, hence 'unsafe-inline' for styles.
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src 'self' blob:; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>{head}</head><body>{body}</body></html>
"""
_SWAGGER_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#page", deepLinking: true, persistAuthorization: false, tryItOutEnabled: true
})
"""
_STYLE = """<style>
body { font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; color: #1d2733 }
code { background: #eef1f4; padding: .1em .3em; border-radius: 3px } a { color: #0a58ca }
@media (prefers-color-scheme: dark) { body { background: #14191f; color: #dde4ea } code { background: #26303a } }
</style>"""


@router.get("/openapi.json")
async def document(request: Request, opened: Opened) -> Response:
    merged = await opened.openapi.get(request.app.openapi)
    return Response(merged, media_type="application/json", headers={"access-control-allow-origin": "*"})


@router.get("/docs")
async def swagger() -> HTMLResponse:
    head = '<link rel="stylesheet" href="/docs/assets/swagger-ui.css">'
    body = (
        '<div id="page"></div><script src="/docs/assets/swagger-ui-bundle.js"></script>'
        '<script src="/docs/assets/start.js"></script>'
    )
    return HTMLResponse(_PAGE.format(title="Lakegate API", head=head, body=body), headers=_HEADERS)


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    body = '<redoc spec-url="/openapi.json"></redoc><script src="/docs/assets/redoc.standalone.js"></script>'
    return HTMLResponse(_PAGE.format(title="Lakegate API", head="", body=body), headers=_HEADERS)


@router.get("/docs/assets/start.js")
async def start() -> Response:
    return Response(_SWAGGER_START, media_type="text/javascript")


@router.get("/docs/assets/{name}")
async def asset(name: str) -> FileResponse:
    if name not in ASSETS:
        raise NotFound(f"There is no asset {name[:100]!r}.")
    return FileResponse(_assets() / name, media_type=ASSETS[name], headers={"cache-control": "public, max-age=86400"})


@router.get("/problems")
async def problems() -> HTMLResponse:
    items = "".join(
        f'<li><a href="/problems/{page.stem}">{html.escape(_title(page))}</a></li>'
        for page in sorted(_problem_pages().glob("*.md"))
    )
    body = f"<h1>Problems</h1><p>What an error of the API can be, and what to do about it.</p><ul>{items}</ul>"
    return HTMLResponse(_PAGE.format(title="Problems · Lakegate", head=_STYLE, body=body), headers=_HEADERS)


@router.get("/problems/{slug}")
async def problem(slug: Annotated[str, InPath(pattern=r"^[a-z0-9-]{1,80}$")]) -> HTMLResponse:
    page = _problem_pages() / f"{slug}.md"
    if not page.is_file():
        raise NotFound(f"There is no problem called {slug!r}. All are listed at /problems.")
    body = MarkdownIt("commonmark", {"html": False}).render(page.read_text())
    body += '<p><a href="/problems">All problems</a> · <a href="/docs">API</a></p>'
    title = html.escape(f"{_title(page)} · Lakegate")
    return HTMLResponse(_PAGE.format(title=title, head=_STYLE, body=body), headers=_HEADERS)


def _title(page: Path) -> str:
    return page.read_text().partition("\n")[0].lstrip("# ")


@cache
def _assets() -> Path:
    """Where fastapi-offline keeps Swagger UI and ReDoc; found without running it."""
    spec = importlib.util.find_spec("fastapi_offline")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"


@cache
def _problem_pages() -> Path:
    """The pages of the source tree, else those that the wheel has put under sys.prefix."""
    tree = Path(__file__).parents[4] / "docs" / "problems"
    return tree if tree.is_dir() else Path(sys.prefix) / "share" / "lakegate" / "problems"
