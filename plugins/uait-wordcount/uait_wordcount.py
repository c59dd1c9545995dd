import attrs

from uait import App, Context, body, service


@attrs.frozen
class Text:
    text: str


@attrs.frozen
class Task:
    text: str = attrs.field(alias="userRequest")


@service(port=8707, summary="Counts words", intents=("count the words", "how long is this text"))
async def wordcount(ctx: Context) -> App:
    app = ctx.app()  # a QuartTrio with every convention of uait's services

    @app.post("/count")
    async def count() -> dict[str, int]:
        return {"words": len((await body(Text)).text.split())}

    @app.post("/orchestrate")  # what a service with `intents` is asked when the orchestrator has chosen it
    async def orchestrate() -> dict[str, int]:
        return {"words": len((await body(Task)).text.split())}

    return app  # or `yield app`: what follows the yield is teardown
