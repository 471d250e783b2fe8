"""Text from outside in charts."""

from __future__ import annotations

import pytest

from nas.plotting.page import escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('an "odd" name', 'an "odd" name'),
        ("it's", "it's"),
        ("a < b & c", "a &lt; b &amp; c"),
        ("<b>bold</b>", "&lt;b&gt;bold&lt;/b&gt;"),
    ],
)
def test_plotly_shows_text_as_it_is(text: str, shown: str) -> None:
    """Plotly decodes ``&lt;``, ``&gt;`` and ``&amp;``, but would print ``&quot;``."""
    assert escaped(text) == shown
