"""What tests take of Dask; where it is not installed, they are skipped."""

import pytest

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
LocalCluster, Scheduler = distributed.LocalCluster, distributed.Scheduler
Status, get_worker = distributed.Status, distributed.get_worker
