"""Puts the tensors of a checkpoint together with h5py alone and prints a line for each: name, shape, bytes an element, a sum over its bits.

usage: checkpoint_h5py_test.py CHECKPOINT_FOLDER
"""

import pathlib
import sys

import h5py
import numpy as np


def main():
    tensors = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("rank-*.h5")):
        with h5py.File(path, "r") as file:
            for name, group in file.items():
                for dataset in group.values():
                    shape = tuple(int(size) for size in dataset.attrs["global_shape"])
                    offset = tuple(int(begin) for begin in dataset.attrs["offset"])
                    size = dataset.id.get_type().get_size()  # bfloat16 reads as float32
                    bits, covered, _ = tensors.setdefault(
                        name, (np.zeros(shape, np.uint64), np.zeros(shape, bool), size))
                    place = tuple(slice(begin, begin + extent)
                                  for begin, extent in zip(offset, dataset.shape))
                    values = dataset[...]
                    if size == 2:
                        bits[place] = values.astype(np.float32).view(np.uint32) >> 16
                    else:
                        bits[place] = values.view({4: np.uint32, 8: np.uint64}[size])
                    assert not covered[place].any(), f"{name} {place} is there twice"
                    covered[place] = True
    for name, (bits, covered, size) in sorted(tensors.items()):
        assert covered.all(), f"{name} has a hole"
        weights = np.arange(1, bits.size + 1, dtype=np.uint64).reshape(bits.shape)
        print(name, list(bits.shape), size, int((bits * weights).sum(dtype=np.uint64)))


if __name__ == "__main__":
    main()
