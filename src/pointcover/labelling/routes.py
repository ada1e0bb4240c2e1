"""The addresses of the page. Images are known by number: no path comes from the browser."""

import asyncio
import errno
import json
import math
import mimetypes
import time
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from pointcover.labelling.access import MAX_BODY, Access, Guard
from pointcover.labelling.jobs import Jobs
from pointcover.labelling.point_log import ID, parse_line
from pointcover.labelling.session import NotFound, Session
from pointcover.labelling.settings import ClassSettings
from pointcover.labelling.view import View
from pointcover.validation import Section

PAGE: Final = Path(__file__).parent / "page"
LEAFLET: Final = ("leaflet.js", "leaflet.css")
SESSION: Final = "x-pointcover-session"
"""Header with the session's id that the page got when it opened."""
LONGEST_WAIT_S: Final = 25.0
STEP_S: Final = 0.03

Work = Callable[[Session, dict[str, Any]], Any]
Begin = Callable[[Jobs], None]


class OtherProject(LookupError):
    """The request is of a tab that shows another project, or other images."""


class _Classes(Section):
    """Body of a request that replaces the classes."""

    classes: tuple[ClassSettings, ...]
    renamed: dict[str, str] = Field(default_factory=dict)


def make_app(session: Session, access: Access) -> Starlette:
    """Return the application.

    Args:
        session: started.
        access: who may talk to it.
    """
    files = static_files()
    jobs = Jobs(session)

    async def page(request: Request) -> Response:
        return answer_static(files, "index.html")

    async def static(request: Request) -> Response:
        return answer_static(files, request.path_params["name"])

    async def state(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(session.state))

    async def status(request: Request) -> Response:
        seen = request.query_params.get("seen", "")
        end = time.monotonic() + LONGEST_WAIT_S
        while seen == str(session.number) and time.monotonic() < end:
            if await request.is_disconnected():
                break
            await asyncio.sleep(STEP_S)
        return JSONResponse(await run_in_threadpool(session.status))

    def tile(request: Request) -> Response:
        check_start(request)
        place = [request.path_params[name] for name in ("image", "level", "row", "col")]
        content, media_type = session.tile(*place)
        return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=3600"})

    def map_png(request: Request) -> Response:
        check_start(request)
        layer = request.path_params["layer"]
        if layer not in ("classes", "confidence"):
            raise NotFound(f"there is no layer {layer}")
        content = session.map_png(request.path_params["number"], layer)
        return Response(content, media_type="image/png", headers={"Cache-Control": "max-age=600"})

    def trained_tile(request: Request) -> Response:
        check_start(request)
        number, image, *place = (
            request.path_params[name] for name in ("number", "image", "level", "row", "col")
        )
        content = session.trained_tile(number, image, tuple(place))
        return Response(content, media_type="image/png", headers={"Cache-Control": "max-age=600"})

    def run_in_mlflow(request: Request) -> Response:
        return RedirectResponse(jobs.address_of_run(), 303)

    def check_start(request: Request) -> None:
        """Refuse addresses of another start: their numbers are of other images and maps."""
        if request.path_params["session"] != session.id:
            raise NotFound("the server was started again: reload the page")

    def check_project(request: Request) -> None:
        if not session.is_same_project(request.headers.get(SESSION, "")):
            raise OtherProject(
                "Another project, or other images, are open at this address now, so this tab has "
                "stopped. Reload it to see them."
            )

    def post(path: str, work: Work) -> Route:
        async def answer(request: Request) -> Response:
            check_project(request)
            values = parse_body(await request.body())
            return JSONResponse(await run_in_threadpool(work, session, values))

        return Route(path, answer, methods=["POST"])

    def begin(path: str, work: Begin) -> Route:
        async def answer(request: Request) -> Response:
            check_project(request)
            await run_in_threadpool(work, jobs)
            return JSONResponse({})

        return Route(path, answer, methods=["POST"])

    routes = [
        Route("/", page),
        Route("/static/{name}", static),
        Route("/api/state", state),
        Route("/api/status", status),
        Route("/api/{session}/images/{image:int}/tiles/{level:int}/{row:int}/{col:int}", tile),
        Route("/api/{session}/map/{number:int}/{layer}.png", map_png),
        Route(
            "/api/{session}/trained/{number:int}/{image:int}/{level:int}/{row:int}/{col:int}",
            trained_tile,
        ),
        Route("/run", run_in_mlflow),
        *(post(f"/api/{name}", work) for name, work in ACTIONS.items()),
        begin("/api/export", Jobs.export),
        begin("/api/map_images", Jobs.map_images),
        begin("/api/train", Jobs.train),
    ]
    return Starlette(
        routes=routes, middleware=[Middleware(Guard, access=access)], exception_handlers=handlers()
    )


def handlers() -> dict[Any, Any]:
    """Return what answers errors, by their class."""
    return {
        NotFound: _answer(404),
        OtherProject: _answer(409),
        ValueError: _answer(400),
        TypeError: _answer(400),
        KeyError: _answer(400),
        OSError: _answer(507),
    }


def _add(session: Session, values: dict[str, Any]) -> Any:
    place, label = _place(values), _text(values, "class")
    return session.add(_whole(values, "image"), place, label, _new_id(values))


def _add_stroke(session: Session, values: dict[str, Any]) -> Any:
    places = values.get("places")
    if not isinstance(places, list) or not all(isinstance(one, dict) for one in places):
        raise ValueError("places: wanted a list of objects with id, x and y")
    points = [_new_id(one) for one in places]
    if len(set(points)) < len(points):
        raise ValueError("places: wanted ids that differ")
    image, label = _whole(values, "image"), _text(values, "class")
    return session.add_stroke(image, [_place(one) for one in places], label, points)


def _add_polygon(session: Session, values: dict[str, Any]) -> Any:
    image, named = _whole(values, "image"), (_new_id(values), _text(values, "class"))
    if "outline" in values:
        return session.add_polygon(image, parse_line(values["outline"], 3), named)
    line = parse_line(values.get("line"), 1)
    radius: Any = values.get("radius_px")
    if type(radius) not in (int, float) or not math.isfinite(radius):
        raise ValueError("radius_px: wanted a finite number")
    return session.add_polygon(image, line, named, float(radius))


def _pass_over(session: Session, values: dict[str, Any]) -> Any:
    state: Any = _text(values, "state")
    return session.pass_over(_whole(values, "image"), _place(values), state)


def _move(session: Session, values: dict[str, Any]) -> Any:
    return session.move(_text(values, "id"), _place(values))


def _relabel(session: Session, values: dict[str, Any]) -> Any:
    return session.relabel(_text(values, "id"), _text(values, "class"))


def _remove(session: Session, values: dict[str, Any]) -> Any:
    return session.remove(_text(values, "id"))


def _set_classes(session: Session, values: dict[str, Any]) -> Any:
    found = _Classes.model_validate(values)
    session.set_classes(found.classes, found.renamed)
    return session.state()


def _set_settings(session: Session, values: dict[str, Any]) -> Any:
    session.set_settings(values)
    return session.state()["settings"]


def _show(session: Session, values: dict[str, Any]) -> Any:
    names = ("image", "level", "top", "left", "bottom", "right")
    session.show(View(*(_whole(values, name) for name in names)))
    return {}


def _suggest(session: Session, values: dict[str, Any]) -> Any:
    return session.suggest(_whole(values, "image"))


ACTIONS: Final[dict[str, Work]] = {
    "add": _add,
    "add_stroke": _add_stroke,
    "add_polygon": _add_polygon,
    "pass_over": _pass_over,
    "move": _move,
    "relabel": _relabel,
    "remove": _remove,
    "undo": lambda session, values: session.undo(),
    "redo": lambda session, values: session.redo(),
    "classes": _set_classes,
    "settings": _set_settings,
    "view": _show,
    "suggest": _suggest,
}
"""What the page may ask for, by POST."""


def _answer(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        kind = getattr(error, "errno", None)
        is_full = kind in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        text = "The disk is full." if is_full else _text_of(error)
        return JSONResponse({"error": text, "is_full": is_full}, status)

    return answer


def _text_of(error: Exception) -> str:
    """Return the message of an error, of pydantic's without their details."""
    if isinstance(error, ValidationError):
        return "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
    return str(error)


def static_files() -> dict[str, Path]:
    """Return the files of the page by name.

    Raises:
        ValueError: Leaflet is not installed.
    """
    try:
        spec = find_spec("xstatic.pkg.leaflet")
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("Leaflet is not installed: pip install 'pointcover[label]'")
    data = Path(next(iter(spec.submodule_search_locations))) / "data"
    return {path.name: path for path in PAGE.iterdir() if path.is_file()} | {
        name: data / name for name in LEAFLET
    }


def answer_static(files: dict[str, Path], name: str) -> Response:
    """Return a file of the page.

    Raises:
        NotFound: there is no such file.
    """
    if name not in files:
        raise NotFound(f"there is no file {name}")
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(files[name].read_bytes(), media_type=media_type)


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the values of a request.

    Raises:
        ValueError: it is too long, or no JSON object.
    """
    if len(body) > MAX_BODY:
        raise ValueError("the request is too long")
    values = json.loads(body or b"{}")
    if not isinstance(values, dict):
        raise ValueError("wanted a JSON object")
    return values


def _whole(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    if type(value) is not int or abs(value) > 1 << 40:
        raise ValueError(f"{name}: wanted a whole number")
    return value


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or len(value) > 200:
        raise ValueError(f"{name}: wanted text")
    return value


def _new_id(values: dict[str, Any]) -> str:
    """Return the id that the page made for a point, so that it may ask again without harm."""
    value = _text(values, "id")
    if not ID.fullmatch(value):
        raise ValueError("id: wanted 32 hexadecimal digits, new for each point")
    return value


def _place(values: dict[str, Any]) -> tuple[float, float]:
    place = values.get("x"), values.get("y")
    if not all(type(one) in (int, float) and math.isfinite(one) for one in place):  # type: ignore[arg-type]
        raise ValueError("x and y: wanted finite numbers")
    return float(place[0]), float(place[1])  # type: ignore[arg-type]
