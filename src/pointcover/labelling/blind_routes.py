"""The addresses of the blind page. None of them says what a map or a model says."""

from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pointcover.labelling.access import Access, Guard
from pointcover.labelling.blind import BlindSession
from pointcover.labelling.routes import (
    SESSION,
    OtherProject,
    answer_static,
    handlers,
    parse_body,
    static_files,
)
from pointcover.labelling.session import NotFound


def make_blind_app(session: BlindSession, access: Access) -> Starlette:
    """Return the application.

    Args:
        session: of a sample.
        access: who may talk to it.
    """
    files = static_files()

    async def page(request: Request) -> Response:
        return answer_static(files, "blind.html")

    async def static(request: Request) -> Response:
        return answer_static(files, request.path_params["name"])

    async def state(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(session.state))

    async def answer(request: Request) -> Response:
        if not session.is_same_project(request.headers.get(SESSION, "")):
            raise OtherProject("Another sample is open at this address now: reload this tab.")
        values = parse_body(await request.body())
        return JSONResponse(await run_in_threadpool(_answer, session, values))

    def tile(request: Request) -> Response:
        if request.path_params["session"] != session.id:
            raise NotFound("the server was started again: reload the page")
        place = [request.path_params[name] for name in ("image", "level", "row", "col")]
        content, media_type = session.tile(*place)
        return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=3600"})

    routes = [
        Route("/", page),
        Route("/static/{name}", static),
        Route("/api/state", state),
        Route("/api/answer", answer, methods=["POST"]),
        Route("/api/{session}/images/{image:int}/tiles/{level:int}/{row:int}/{col:int}", tile),
    ]
    return Starlette(
        routes=routes, middleware=[Middleware(Guard, access=access)], exception_handlers=handlers()
    )


def _answer(session: BlindSession, values: dict[str, Any]) -> Any:
    number, label = values.get("id"), values.get("class")
    if type(number) is not int:
        raise ValueError("id: wanted a whole number")
    if label is not None and not isinstance(label, str):
        raise ValueError("class: wanted text, or null where a person cannot tell")
    return session.answer(number, label)
