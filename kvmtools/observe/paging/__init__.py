"""The page tables of the guest as they are: forms of paging, walks, single translations, entry bits."""
