#pragma once

// Ranges for a profiler, of which there is none; see cuda_runtime.h.

inline int nvtxRangePushA(const char* /*name*/) { return 0; }
inline int nvtxRangePop() { return 0; }
