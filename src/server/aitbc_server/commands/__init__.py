"""The commands, one module each, that loads no more than the command's options need.

Every command loads all of them, to know the others by name; what one does is loaded by the command
itself. A test lists what each may not load.
"""
