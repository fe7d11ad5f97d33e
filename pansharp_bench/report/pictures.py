"""Pictures of runs as small files beside the pages; what is the same in several runs is one file."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from pansharp_bench.figures import read_panels
from pansharp_bench.files import whole
from pansharp_bench.record import Record

_SIDE = 160  # pixels; of a larger picture the middle is shown, not a smaller whole
_NAME = re.compile(r"(.+)-(\d\d)\.png")


@dataclass(frozen=True)
class Drawn:
    """What a run has of one scene: (name, file from the site's root) in the order of its row of pictures, and where
    the colours of the error end, in the unit of the images."""

    name: str
    panels: list[tuple[str, str]]
    top: float | None


@dataclass
class Pictures:
    """Reads the first ``most`` scenes of every split from ``runs`` and keeps them as JPEG by their content."""

    runs: Path
    most: int
    files: dict[str, bytes] = field(default_factory=dict)

    def of(self, record: Record) -> list[Drawn]:
        """The scenes of a run; none where its pictures may not be shown (they are of a real sensor) or are not
        there."""
        folder = record.path(self.runs).with_suffix("") / "pictures"
        found = []
        for path in whole(folder.glob("*.png")) if record.simulated else ():
            named = _NAME.fullmatch(path.name)
            if named and int(named[2]) < self.most:
                panels, top = read_panels(path)
                if panels:
                    share = min(1.0, _SIDE / max(side for p in panels.values() for side in p.size))
                    kept = [(name, self._keep(picture, share)) for name, picture in panels.items()]
                    found.append(Drawn(f"{named[1]}, scene {int(named[2])}", kept, top))
        return found

    def _keep(self, picture: Image.Image, share: float) -> str:
        """The middle of a picture, a share of either side."""
        width, height = (round(share * side) for side in picture.size)
        left, above = (picture.width - width) // 2, (picture.height - height) // 2
        shown = picture.crop((left, above, left + width, above + height))
        content = io.BytesIO()
        shown.save(content, "JPEG", quality=85, subsampling=0)
        name = f"pictures/{hashlib.sha256(content.getvalue()).hexdigest()[:12]}.jpg"
        self.files[name] = content.getvalue()
        return name
