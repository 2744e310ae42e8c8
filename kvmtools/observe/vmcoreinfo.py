"""The VMCOREINFO text that debuggers take their bearings from (Documentation/admin-guide/kdump/vmcoreinfo.rst).

An i386 kernel's own has no ``KERNELOFFSET``; drgn applies the KASLR slide only where there is one.
"""

from __future__ import annotations

import re

from kvmtools.observe.kernel import Kernel


def vmcoreinfo(kernel: Kernel, own: str | None = None) -> str:
    """The kernel's own text with the slide in it; without one, what a debugger cannot do without.

    :param own: what the kernel wrote, if it can be had
    """
    text = own if own else _made_up(kernel)
    if re.search("^KERNELOFFSET=", text, re.MULTILINE):
        return text
    end = "" if text.endswith("\n") else "\n"
    return f"{text}{end}KERNELOFFSET={kernel.slide:x}\n"


def _made_up(kernel: Kernel) -> str:
    release = kernel.banner.split()[2].decode("latin-1")  # "Linux version 6.1.0 (builder) ..."
    root = kernel.architecture.root
    lines = [
        f"OSRELEASE={release}",
        "PAGESIZE=4096",
        f"SYMBOL({root})={kernel.address(root):x}",
        f"SYMBOL(_stext)={kernel.address('_stext'):x}",
        f"KERNELOFFSET={kernel.slide:x}",
        *kernel.architecture.vmcoreinfo,
    ]
    return "\n".join(lines) + "\n"
