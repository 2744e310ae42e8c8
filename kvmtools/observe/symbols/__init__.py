"""What the vmlinux says: symbols, types, enumerators; and by how much KASLR moved them."""
