"""How `make docs` builds the reference: from the docstrings, offline, and every warning is an error."""

import sys
from pathlib import Path

from kvmtools import __version__

sys.path.insert(0, str(Path(__file__).parent))
from rules_page import fill

project = "kvmtools"
author = "the kvmtools developers"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "myst_parser"]
exclude_patterns = ["_build"]

autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": True}
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

nitpicky = True
# What is documented elsewhere: the standard library, NumPy and drgn; and what lies behind the API, which is no promise.
# Types that are imported for type checkers only have no module in their name.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|contextlib|enum|functools|numpy|np|pathlib|types|typing|drgn|_drgn)\..*"),
    (r"py:.*", r"(tuple\[~)?kvmtools\.(api|attach|boot|compare|observe|model|records|show|survey)(\..*)?"),
    (r"py:(class|exc)", r"[A-Z]\w*"),
    (r"py:data", r"[A-Z_]+"),
]

html_theme = "alabaster"
html_theme_options = {"description": "Does the memory of this i386 kernel look the way it must?"}


def setup(app) -> None:  # type: ignore[no-untyped-def]
    app.connect("source-read", fill)
