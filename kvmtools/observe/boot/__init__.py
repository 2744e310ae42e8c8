"""What the kernel was told and configured with: boot data, RAM maps, /proc/iomem, CPU features."""
