"""Set-up, locks and packing of a checkout, for its Makefile.

Standard library only: it runs before any package is installed.
"""
