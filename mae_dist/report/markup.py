"""HTML built from tags, so that text is escaped unless it is markup already.

A URI, a reason or a class name comes from outside and may hold anything; none of the page's code has to
remember to escape it, because a plain str becomes text wherever it is put.
"""

from __future__ import annotations

import base64
import html

_VOID = {"img", "meta"}


class Html(str):
    """Markup that may go into a page as it is. Made by `tag` and `join`; from other strings only by `raw`."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | bool | None) -> Html:
    """`<name attributes>children</name>`; children that are no Html are escaped, None is left out.

    Attribute names lose a trailing underscore (`class_`) and have `-` for `_`; True writes the bare name,
    None and False leave the attribute out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """Children one after the other, without a tag around them."""
    return Html("".join(_escaped(child) for child in children if child is not None))


def raw(markup: str) -> Html:
    """Markup made elsewhere that is safe: our own stylesheet and plots, never what came from outside."""
    return Html(markup)


def data_uri(data: bytes, media_type: str) -> str:
    """The bytes as an address that a page can hold itself: `data:image/png;base64,...`."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(value, quote=True)}"'


def _escaped(child: str) -> str:
    return child if isinstance(child, Html) else html.escape(child, quote=False)
