"""The images that kexec has loaded: their control page is the one page of lowmem that is made executable.

Source: ``struct kimage``, include/linux/kexec.h; machine_kexec_prepare, arch/x86/kernel/machine_kexec_32.c, 6.1.
"""

from __future__ import annotations

from kvmtools.observe.kernel import Kernel

_IMAGES = ("kexec_image", "kexec_crash_image")


def observe_control_pages(kernel: Kernel) -> tuple[int, ...]:
    """``kimage->control_code_page`` of every loaded image, as addresses of ``struct page``.

    :raises MemoryFault: if an image lies where the kernel maps nothing
    """
    found = []
    for symbol in _IMAGES:
        if not kernel.vmlinux.has_symbol(symbol):
            continue
        image = kernel.pointer(kernel.address(symbol))
        if image:
            found.append(kernel.member(image, "struct kimage", "control_code_page"))
    return tuple(page for page in found if page)
