"""What stands behind the command line: the files it reads and writes, and its tables of several fits."""
