"""Links each "RFC 3261 §16.7" of a page to its section."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

MENTION = re.compile(r"RFCs? (\d{3,5})((?:,? (?:and )?§[\d.]*\d)*)")
SECTION = re.compile(r"§([\d.]*\d)")
URL = "https://www.rfc-editor.org/rfc/rfc"


def linked(text: str) -> list[nodes.Node]:
    """Return a text as nodes, with a link for each RFC and each further section of it."""
    found: list[nodes.Node] = []
    at = 0

    def link(start: int, end: int, target: str) -> None:
        nonlocal at
        if start > at:
            found.append(nodes.Text(text[at:start]))
        found.append(nodes.reference("", text[start:end], refuri=URL + target, internal=False))
        at = end

    for match in MENTION.finditer(text):
        number = match[1]
        sections = list(SECTION.finditer(text, *match.span(2)))
        if not sections:
            link(match.start(), match.end(1), number)
            continue
        link(match.start(), sections[0].end(), f"{number}#section-{sections[0][1]}")
        for section in sections[1:]:
            link(section.start(), section.end(), f"{number}#section-{section[1]}")
    if at < len(text):
        found.append(nodes.Text(text[at:]))
    return found


class RFCLinks(SphinxPostTransform):
    """Links RFCs in running text; code, titles and texts of other links stay as they are."""

    default_priority = 900

    def run(self, **kwargs) -> None:
        for text in list(self.document.findall(nodes.Text)):
            parent = text.parent
            inside = parent
            while inside is not None and not isinstance(
                inside, (nodes.reference, nodes.literal, nodes.literal_block, nodes.title)
            ):
                inside = inside.parent
            if inside is None and MENTION.search(text.astext()):
                parent.replace(text, linked(text.astext()))


def setup(app):
    app.add_post_transform(RFCLinks)
    return {"parallel_read_safe": True}
