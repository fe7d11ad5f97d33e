"""The static site: what the records hold, for a reader with a browser. No network, no server, no build tools.

Every page is made from the tables and records that the other renderers draw; nothing is computed here that a table
does not have. Charts are inline SVG, pictures are files beside the pages, each written once.
"""

from pansharp_bench.report.site import write_site

__all__ = ["write_site"]
