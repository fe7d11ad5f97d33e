"""What tests take of Dask; where it is not installed, they are skipped."""

import pytest

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
LocalCluster, Scheduler, SpecCluster = (
    distributed.LocalCluster,
    distributed.Scheduler,
    distributed.SpecCluster,
)
Status, Worker, get_worker = distributed.Status, distributed.Worker, distributed.get_worker
get_address_host = distributed.comm.get_address_host
