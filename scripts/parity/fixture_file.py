"""What all fixtures share: their HDF5 file. tests/support/fixture.h reads it."""

import json

import h5py
import numpy
import torch
import transformers


def create(folder, name, config, reference):
    """A new file with the attributes config (JSON), reference (who computed it) and versions."""
    # The compact format of HDF5 1.8: in the default one, headers are half of such a file.
    file = h5py.File(folder / f"{name}.h5", "w", libver=("v108", "v110"))
    file.attrs["config"] = json.dumps(config)
    file.attrs["reference"] = reference
    file.attrs["versions"] = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return file


def write_array(file, name, value, dtype=numpy.float32):
    file.create_dataset(name, data=numpy.asarray(value, dtype=dtype))


def write_tensors(file, folder, tensors):
    for name, value in tensors.items():
        write_array(file, f"{folder}/{name}", value)
