// HDF5 1.10.8 leaks 424 bytes for each object header that it refuses for its checksum: not ours to
// mend. The address sanitizer asks this function by its name; without the sanitizer nobody calls
// it.
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)
