"""The command line: one file per command, each a parser and the calls that it stands for."""
