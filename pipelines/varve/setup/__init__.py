"""Set-up of a checkout: standard library only, for it runs before any package is installed."""
