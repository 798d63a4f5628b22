// HDF5 1.10.8 leaks 424 bytes for each object header that it refuses for its checksum: not ours to
// mend. The address sanitizer asks this function by its name; without the sanitizer nobody calls
// it.
extern "C" const char* __lsan_default_suppressions();   // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __lsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "leak:libhdf5";
}
