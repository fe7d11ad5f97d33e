"""Datasets: readers, sensors and simulators, registered by decorator; beside them ``jupiter``, on which some stand."""
