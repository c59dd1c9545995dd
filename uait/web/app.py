"""The Quart app of a service, with every convention that our services share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quart.json.provider import JSONProvider
from quart.sessions import NullSession, SessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.exceptions import NotFound as WerkzeugNotFound
from werkzeug.routing import MapAdapter, Rule, WebsocketMismatch

from uait.errors import APIError, BadRequest, MethodNotAllowed, NotFound
from uait.server.asgi import ASGIApp, Receive, Scope, Send
from uait.web.codec import from_json, to_json
from uait.web.connection import HTTPConnection, Request
from uait.web.describe import describe
from uait.web.edge import PUBLIC, Edge
from uait.web.exchange import EXCHANGE, Exchange, Render, standard_error
from uait.web.health import BUILT_IN, add_health_routes
from uait.web.identity import Authenticator
from uait.web.local import TrustedOrigin, from_this_machine
from uait.web.metrics import HTTPMetrics
from uait.web.paths import IdConverter, is_under, request_path
from uait.web.pipeline import Pipeline, is_plain
from uait.web.route import Route
from uait.web.websocket import WebSocketConnection

if TYPE_CHECKING:
    from uait.kernel.service import Context
    from uait.web.describe import Handler


KNOWN_PATHS = 256
"""How many paths are remembered with what they lead to; `KNOWN_CHARACTERS` how long one may be."""

KNOWN_CHARACTERS = 128


class App(Pipeline):
    """Routes as in Quart; ids, identity, deadlines, limits, error bodies, metrics, log lines, health and OpenAPI without a word of the handler.

    A handler returns a dict, list, attrs instance, text, `Response`, `(value, status)`, `(value, status, headers)` or None (204), and raises `uait.errors`. When the client
    leaves, or the deadline passes, it is cancelled.

    Args:
        ctx: the incarnation of the service that it belongs to.

    Attributes:
        public: paths that need no key where keys are configured; a probe has none.
        openapi_extensions: called with the OpenAPI document to add what the routes do not tell, as mounts.
    """

    asgi_http_class = HTTPConnection  # type: ignore[assignment]
    asgi_websocket_class = WebSocketConnection  # type: ignore[assignment]
    request_class = Request
    url_rule_class = Route  # type: ignore[assignment]

    def __init__(self, ctx: Context) -> None:
        # Without static files, templates and an instance folder there is nothing to look for on the disk.
        super().__init__("uait.web", static_folder=None, template_folder=None, root_path="/", instance_path="/")
        self.context = ctx
        self.authenticator = Authenticator(ctx.host_settings.keys)
        self.public = set(PUBLIC)
        self.metrics = HTTPMetrics(ctx.registry)
        self.json = _JSON(self)
        self.session_interface = _NoSessions()  # type: ignore[assignment]
        self.config["MAX_CONTENT_LENGTH"] = ctx.limits.body_bytes
        self.config["RESPONSE_TIMEOUT"] = None
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False
        self.url_map.converters["id"] = IdConverter
        self.openapi_extensions: list[Callable[[dict[str, Any]], None]] = []
        #: Whose pages may ask in local mode; a service can put a rule of its own here.
        self.trusted_origin: TrustedOrigin = from_this_machine
        self._mounts: list[tuple[str, ASGIApp, bool]] = []
        self._error_formats: list[tuple[str, Render]] = []
        self._adapter = self.url_map.bind("localhost")
        self._known: dict[tuple[str, str, bool], Rule | type[WerkzeugNotFound]] = {}
        self._edge = Edge(self)
        add_health_routes(self)
        _add_openapi_route(self)

    if TYPE_CHECKING:
        # Quart's own types know nothing of what `make_response` takes here, as attrs instances.
        def route(self, rule: str, **options: Any) -> Callable[[Handler], Handler]: ...
        def get(self, rule: str, **options: Any) -> Callable[[Handler], Handler]: ...
        def post(self, rule: str, **options: Any) -> Callable[[Handler], Handler]: ...
        def put(self, rule: str, **options: Any) -> Callable[[Handler], Handler]: ...
        def patch(self, rule: str, **options: Any) -> Callable[[Handler], Handler]: ...
        def delete(self, rule: str, **options: Any) -> Callable[[Handler], Handler]: ...

    def mount(self, prefix: str, app: ASGIApp, *, strip: bool = True) -> None:
        """Hand everything under a path prefix to another ASGI app, HTTP and WebSocket, inside all conventions.

        The longest prefix wins; routes of this app win over mounts. The streams are handed through: nothing is buffered.

        Args:
            prefix: as `/v1`; it matches `/v1` and `/v1/...`. "" matches everything.
            app: is given the scope, with `path` and `raw_path` cut.
            strip: whether they are.
        """
        self._mounts.append((prefix.rstrip("/"), app, strip))
        self._mounts.sort(key=lambda mount: -len(mount[0]))

    def errors_for(self, prefix: str, render: Render) -> None:
        """Answer errors under a path prefix in another dialect than ours.

        Args:
            prefix: as `/v1/messages`; the longest wins, and `/` is everything.
            render: gives the JSON body from the error and the request id.
        """
        self._error_formats.append((prefix.rstrip("/"), render))
        self._error_formats.sort(key=lambda entry: -len(entry[0]))

    def error_format(self, path: str) -> Render:
        """How errors at `path` are written."""
        for prefix, render in self._error_formats:
            if is_under(path, prefix):
                return render
        return standard_error

    # ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._edge(scope, receive, send)

    async def asgi_app(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """What stands behind the edge: routes, then mounts. Wrap it for middleware that should be inside the conventions; wrap the app for what should be outside."""
        kind = scope["type"]
        if kind == "lifespan":
            await super().asgi_app(scope, receive, send)  # type: ignore[arg-type]
            return
        exchange: Exchange = scope[EXCHANGE]
        try:
            rule, arguments = self._route(
                request_path(scope), scope.get("method", "GET"), websocket=kind == "websocket"
            )
        except HTTPException as error:
            if isinstance(error, (WerkzeugNotFound, WebsocketMismatch)):
                mounted = self._mounted(scope)
                if mounted is not None:
                    app, inner, exchange.route = mounted
                    exchange.mounted = True
                    await app(inner, receive, send)
                    return
            raise self._no_route(error, scope) from None
        exchange.route = rule.rule
        # Quart would look for it again.
        exchange.match = (rule, arguments)
        await super().asgi_app(scope, receive, send)  # type: ignore[arg-type]

    def _route(self, path: str, method: str, *, websocket: bool) -> tuple[Rule, dict[str, Any]]:
        """The route of a request, and its arguments. What has no arguments is remembered, and what no route fits: looking through the map takes longer than a short handler.

        Raises what werkzeug does.
        """
        key = (path, method, websocket)
        known = self._known.get(key)
        if isinstance(known, Rule):
            return known, {}
        if known is not None:
            raise known
        try:
            rule, arguments = self._adapter.match(path, method, return_rule=True, websocket=websocket)
        except WerkzeugNotFound:
            self._remember(key, WerkzeugNotFound)
            raise
        if not arguments:
            self._remember(key, rule)
        return rule, dict(arguments)

    def _remember(self, key: tuple[str, str, bool], found: Rule | type[WerkzeugNotFound]) -> None:
        # Clients make up paths, and methods: neither their number nor their length is theirs to choose.
        if len(key[0]) + len(key[1]) <= KNOWN_CHARACTERS:
            if len(self._known) >= KNOWN_PATHS:
                self._known.clear()
            self._known[key] = found

    def _mounted(self, scope: Scope) -> tuple[ASGIApp, Scope, str] | None:
        path: str = scope["path"]
        for prefix, app, strip in self._mounts:
            if is_under(path, prefix):
                inner = dict(scope)
                if strip and prefix:
                    inner["path"] = path[len(prefix) :] or "/"
                    raw: bytes = scope.get("raw_path") or b""
                    inner["raw_path"] = raw.removeprefix(prefix.encode()) or b"/"
                return app, inner, f"{prefix}/*"
        return None

    def _no_route(self, error: HTTPException, scope: Scope) -> APIError | HTTPException:
        if isinstance(error, WebsocketMismatch):
            if scope["type"] == "websocket":
                return BadRequest("This path does not speak WebSocket.")
            return APIError(
                "This path speaks WebSocket only.",
                status=426,
                code="UPGRADE_REQUIRED",
                headers={"Upgrade": "websocket", "Connection": "Upgrade"},
            )
        if isinstance(error, WerkzeugMethodNotAllowed):
            path = request_path(scope)
            fitting = [self._adapter.match(path, method, return_rule=True)[0] for method in error.valid_methods or ()]
            allowed = self.methods_at(min(fitting, key=lambda rule: len(rule.arguments)).rule)
            return MethodNotAllowed(headers={"Allow": ", ".join(allowed)})
        return NotFound() if isinstance(error, WerkzeugNotFound) else error

    def methods_at(self, template: str) -> list[str]:
        """The methods of the routes at a path template. Of `/notes/stats`, these are not the ones of `/notes/<id>`, which fits, too."""
        rules = [rule for rule in self.url_map.iter_rules() if rule.rule == template and not rule.websocket]
        return sorted({method for rule in rules for method in rule.methods or ()})

    # Quart

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: Any = None, *args: Any, **options: Any
    ) -> None:
        """As Quart's; a GET route at the path of one that every service has (`/`, `/health`, ...) takes its place."""
        built_in = f"{BUILT_IN}{rule}"
        methods = {method.upper() for method in options.get("methods") or ("GET",)}
        if built_in in self.view_functions and methods <= {"GET", "HEAD"} and not options.get("websocket"):
            self.view_functions[built_in] = view_func
        else:
            super().add_url_rule(rule, endpoint, view_func, *args, **options)
            self._known.clear()

    async def handle_http_exception(self, *args: Any) -> Any:
        """Werkzeug's errors get our body, at the edge, where no handler is registered for them. (The arguments differ between Quart's lines.)"""
        result = await super().handle_http_exception(*args)
        if isinstance(result, HTTPException) and result.response is None and (result.code or 0) >= 400:
            raise result
        return result

    def create_url_adapter(self, request: Any) -> MapAdapter | None:
        """Give Quart the route that is found already."""
        exchange: Exchange | None = request.scope.get(EXCHANGE) if request is not None else None
        if exchange is None or exchange.match is None:
            adapter: MapAdapter | None = super().create_url_adapter(request)
            return adapter
        return _Matched(self, exchange.match, self._adapter)

    async def make_response(self, result: Any) -> Any:
        """As Quart's, and for attrs instances, any JSON value inside a tuple, and None (204)."""
        rest: tuple[Any, ...] = ()
        if isinstance(result, tuple):
            result, *tail = result
            rest = tuple(tail)
        if result is None:
            response = self.response_class(b"", status=204)
            response.headers.pop("Content-Type", None)
        elif is_plain(result):
            response = self.response_class(to_json(result), content_type="application/json")
        else:
            return await super().make_response((result, *rest) if rest else result)
        return await super().make_response((response, *rest)) if rest else response


def _add_openapi_route(app: App) -> None:
    cached: dict[int, dict[str, Any]] = {}

    @app.get("/openapi.json", endpoint=f"{BUILT_IN}/openapi.json")
    @describe(returns=dict[str, Any], tags=("service",))
    async def openapi() -> Any:
        """This document."""
        from uait.web.openapi import document_of  # late: most processes are never asked for it, and it costs a megabyte

        rules = len(app.url_map._rules)
        if rules not in cached:
            cached.clear()
            cached[rules] = document_of(app)
        return cached[rules]


class _Matched(MapAdapter):
    """A URL adapter that knows its answer."""

    def __init__(self, app: App, match: tuple[Rule, Any], adapter: MapAdapter) -> None:
        self.__dict__.update(adapter.__dict__)
        self._app = app
        self._match = match

    def match(self, path_info: Any = None, method: Any = None, *args: Any, **kwargs: Any) -> Any:
        if path_info is None and method is None:
            return self._match
        return super().match(path_info, method, *args, **kwargs)

    def allowed_methods(self, path_info: str | None = None) -> list[str]:
        return self._app.methods_at(self._match[0].rule)


class _NoSessions(SessionInterface):
    """We have no cookies."""

    def __init__(self) -> None:
        self._none = NullSession()

    async def open_session(self, app: Any, request: Any) -> Any:
        return self._none

    def is_null_session(self, obj: object) -> bool:
        return True


class _JSON(JSONProvider):
    """Quart's own JSON calls (`request.get_json`, `jsonify`, the test client's), spoken our way."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return to_json(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return from_json(s.encode() if isinstance(s, str) else s)

    def response(self, *args: Any, **kwargs: Any) -> Any:
        value = args[0] if len(args) == 1 and not kwargs else (args or kwargs)
        response_class: Any = self._app.response_class
        return response_class(to_json(value), content_type="application/json")
