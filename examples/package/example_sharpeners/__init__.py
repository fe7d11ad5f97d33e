"""An example of a package that plugs in."""
