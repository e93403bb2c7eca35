"""Functions that generated modules carry along, each only where it is used.

A generated file contains the text of what it needs from here (and of what that needs);
nothing of this package is imported at run time. Names begin with an underscore, as they
do in the generated file.
"""
