"""Datasets: readers, sensors and simulators, registered by decorator; beside them ``jupiter``, where some stand."""
