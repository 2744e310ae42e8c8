"""What a guest may put in a name, so that a terminal obeys it or a document ends."""

from __future__ import annotations

HOSTILE = (
    "\x1b]0;title\x07",  # ESC and BEL: the terminal's title
    "\x1b[31m",  # the colours that we use ourselves
    "a\nb\rc\td\v\f",
    "\0",
    "\x7f",
    "\x9b31m",  # CSI as one C1 control, from a Latin-1 byte
    "\xa0\xad",  # a blank that is none, a hyphen that is not seen
    "\udcff\ud800",  # lone surrogates
    "\ufffe\uffff",  # no characters of XML
    "\u202e\u2066\u200f",  # bidirectional controls
    "\u2028\u2029",  # line breaks of Unicode
    "]]><!-- &amp; <x a=\"'",
)
ALL = "".join(HOSTILE)


def harmless(text: str) -> bool:
    """Whether nothing in what was printed is a control, line ends aside."""
    return text.replace("\n", "").isprintable()
