"""A service of your own beside the built-in ones, in one file and without packaging it.

    python examples/plugin_inline.py

Then, in another terminal:

    curl -X POST http://localhost:9999/api/v1/shout/loud -H "Content-Type: application/json" -d '{"text": "hello"}'
"""

from __future__ import annotations

import attrs

import uait


@attrs.frozen
class ShoutSettings:
    """Section `[shout]` of the settings file, or `UAIT_SHOUT_MARKS=5` in the environment."""

    marks: int = attrs.field(default=3, validator=attrs.validators.ge(0))


@attrs.frozen
class Text:
    text: str


@uait.service(port=8708, settings=ShoutSettings, intents=("shout this",))
async def shout(ctx: uait.Context) -> uait.App:
    """Says it loudly."""
    app = ctx.app()

    @app.post("/loud")
    async def loud() -> dict[str, str]:
        """The text, louder."""
        text = (await uait.body(Text)).text
        return {"text": text.upper() + "!" * ctx.settings.marks}

    return app


if __name__ == "__main__":
    uait.run(services=[shout])
