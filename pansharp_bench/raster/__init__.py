"""GeoTIFF: rasters with their place on the ground, read and written by windows, so that none need fit in memory."""

from pansharp_bench.raster.grids import (
    Grid,
    Mend,
    Misfit,
    Placement,
    aligned,
    misfit,
    place,
    relate,
    relate_counts,
    within,
)
from pansharp_bench.raster.reading import OF_THESE_ALONE, Raster, held, in_unit_of
from pansharp_bench.raster.writing import (
    SUFFIXES,
    Format,
    Strips,
    Thumbnail,
    check_name,
    geotiff,
    write_geotiff,
)

__all__ = [
    "OF_THESE_ALONE",
    "SUFFIXES",
    "Format",
    "Grid",
    "Mend",
    "Misfit",
    "Placement",
    "Raster",
    "Strips",
    "Thumbnail",
    "aligned",
    "check_name",
    "geotiff",
    "held",
    "in_unit_of",
    "misfit",
    "place",
    "relate",
    "relate_counts",
    "within",
    "write_geotiff",
]
