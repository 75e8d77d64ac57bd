"""Measures versions of a program against each other: in turns, on this machine, in this minute."""
