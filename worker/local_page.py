"""What a page of this machine's own browser refuses, and what it tells the browser to refuse."""

from flask import Flask, Response, abort, request

LOOPBACK = ("127.0.0.1", "localhost")


def guard(app: Flask, policy: str, host: str = LOOPBACK[0]) -> None:
    """Let other pages neither use nor embed this one. Where it listens on loopback, it answers
    under that name only. ``policy``: its Content-Security-Policy.
    """

    @app.before_request
    def refuse_strangers() -> None:
        # A page from elsewhere can send requests here, under a name of its own (DNS rebinding) or
        # as itself. Both say so in a header that no page can change.
        if host in LOOPBACK and request.host.rsplit(":", 1)[0] not in LOOPBACK:
            abort(403, "this page answers on 127.0.0.1 only")
        if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
            abort(403, "this request comes from another page")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response
