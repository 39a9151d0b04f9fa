"""The programs that are measured, ours and those to compare with; each runs as a process of its own."""
