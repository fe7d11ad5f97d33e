"""Datasets: readers, sensors and simulators, registered by decorator."""
