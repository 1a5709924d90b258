"""`wsicomp models`: the weights that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from wsicomp.cli.console import emit, say
from wsicomp.cli.options import JsonOption


def models(
    name: Annotated[str | None, typer.Argument(help="Show the card of these weights.", show_default="list all")] = None,
    json: JsonOption = False,
) -> None:
    """List the shipped codecs and classifiers, or show the card of one: data, licence, recipe, measures.

    Example: wsicomp models perticarari2023
    """
    from wsicomp.models.registry import describe_shipped
    from wsicomp.models.shipped import read_card

    if name is not None:
        card = read_card(name)
        if json:
            emit({"command": "models", "status": "ok", "name": name, "card": card})
        else:
            say(card.rstrip())
        return
    found = describe_shipped()
    if json:
        emit({"command": "models", "status": "ok", "results": found})
        return
    for item in found:
        say(f"{item['name']}: {item['model']}, {item['bytes']:,} bytes, SHA-256 {item['sha256'][:12]}...")
