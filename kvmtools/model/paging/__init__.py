"""Page tables as the processor reads them and as they are built; tables in text files, with what they must give."""
