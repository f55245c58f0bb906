"""Containers of bytes from strangers (HDF5, zip): inspected as a whole before anything in them is used."""
