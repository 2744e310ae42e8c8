"""kvmtools: does the memory management of this running i386 kernel look the way it must?

.. code-block:: python

   import kvmtools

   with kvmtools.open(guest="pae") as kernel:
       print(kernel.check().summary)

.. code-block:: text

   agrees with the model; ...

:data:`__all__` is every name that is promised to stay; ``kvmtools.model`` has a list of its own.  Each is loaded when
it is asked for (PEP 562), so that ``import kvmtools`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs more than all the rest of this file
__version__ = "0.1.0"

if TYPE_CHECKING:
    from kvmtools import model
    from kvmtools.api.checking import rules
    from kvmtools.api.differences import Differences, diff
    from kvmtools.api.guests import booted
    from kvmtools.api.layout import KernelLayout
    from kvmtools.api.mappings import MappedPage, MappedRun, Mappings
    from kvmtools.api.open_kernel import OpenKernel
    from kvmtools.api.opening import open_kernel as open
    from kvmtools.api.page_tables import PageTable
    from kvmtools.api.page_use import PageUse
    from kvmtools.api.pages import Page
    from kvmtools.api.pkmap import PkmapSlots
    from kvmtools.api.registers import Vcpu, Vcpus
    from kvmtools.api.translations import NOT_MAPPED, TranslatedAddress
    from kvmtools.api.zones import Zones
    from kvmtools.errors import (
        AttachError,
        BuildError,
        GuestVanished,
        Inconclusive,
        KvmtoolsError,
        MemoryFault,
        OutputError,
        SymbolsError,
        UsageError,
    )
    from kvmtools.findings import Finding, Outcome, Result, RuleEntry, Status
    from kvmtools.report import render
    from kvmtools.report.page import to_html
    from kvmtools.survey import Survey

__all__ = [
    "NOT_MAPPED",
    "AttachError",
    "BuildError",
    "Differences",
    "Finding",
    "GuestVanished",
    "Inconclusive",
    "KernelLayout",
    "KvmtoolsError",
    "MappedPage",
    "MappedRun",
    "Mappings",
    "MemoryFault",
    "OpenKernel",
    "Outcome",
    "OutputError",
    "Page",
    "PageTable",
    "PageUse",
    "PkmapSlots",
    "Result",
    "RuleEntry",
    "Status",
    "Survey",
    "SymbolsError",
    "TranslatedAddress",
    "UsageError",
    "Vcpu",
    "Vcpus",
    "Zones",
    "__version__",
    "booted",
    "diff",
    "model",
    "open",
    "render",
    "rules",
    "to_html",
]

_HOMES = {
    "errors": "AttachError BuildError GuestVanished Inconclusive KvmtoolsError MemoryFault OutputError SymbolsError"
    " UsageError",
    "findings": "Finding Outcome Result RuleEntry Status",
    "report": "render",
    "report.page": "to_html",
    "survey": "Survey",
    "api.checking": "rules",
    "api.differences": "Differences diff",
    "api.guests": "booted",
    "api.layout": "KernelLayout",
    "api.mappings": "MappedPage MappedRun Mappings",
    "api.open_kernel": "OpenKernel",
    "api.page_tables": "PageTable",
    "api.page_use": "PageUse",
    "api.pages": "Page",
    "api.pkmap": "PkmapSlots",
    "api.registers": "Vcpu Vcpus",
    "api.translations": "NOT_MAPPED TranslatedAddress",
    "api.zones": "Zones",
}
"""Module to the names that it gives."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "model":
        return import_module("kvmtools.model")
    if name == "open":
        return import_module("kvmtools.api.opening").open_kernel
    if name in _HOME_OF:
        return getattr(import_module(f"kvmtools.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'kvmtools' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
