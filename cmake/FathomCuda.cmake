# The CUDA backend: sources that nvcc builds with -DFATHOM_CUDA=ON, and that the tests build for the emulated device
# (tests/cuda_emulator/) in every build.

set(FATHOM_DEVICES)  # what a program links to have every device of this build
option(FATHOM_CUDA "Add the CUDA, cuBLASLt, cuDNN and NCCL backend (needs the CUDA 13 toolkit)" OFF)

if(FATHOM_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES 90a-real)  # not 90a: that would assemble portable code too, which wgmma is not
  if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
    set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
  endif()
  if(CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  endif()
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc has C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  find_package(CUDAToolkit 13 REQUIRED)
  # Asserts in device code serialize wgmma: never without NDEBUG. Spills and local memory are errors of their own check
  # (scripts/check_cuda_build.py reads what ptxas says).
  add_library(fathom_cuda_flags INTERFACE)
  target_compile_options(fathom_cuda_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:-DNDEBUG -lineinfo --expt-relaxed-constexpr -Xptxas=-v -Xcompiler=-march=${FATHOM_ARCH},-Wall,-Werror>)
  target_include_directories(fathom_cuda_flags INTERFACE ${PROJECT_SOURCE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
  add_library(fathom_cuda INTERFACE)  # all of the backend, registrations included
  add_custom_target(cuda_tests ALL)   # the test programs that need a GPU
  set(FATHOM_DEVICES fathom_cuda)
endif()

# fathom_cuda_library(NAME SOURCES a.cu b.cc ... [REAL_ONLY c.cc ...] LINK ... [REAL_LINK ...]): a folder's part of the backend.
# REAL_ONLY sources call the libraries of REAL_LINK, for which the emulated device has stand-ins.
function(fathom_cuda_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;REAL_ONLY;LINK;REAL_LINK" ${ARGN})
  foreach(source IN LISTS ARG_SOURCES)
    set_property(GLOBAL APPEND PROPERTY FATHOM_EMULATED_SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endforeach()
  if(FATHOM_CUDA)
    add_library(${name} STATIC ${ARG_SOURCES} ${ARG_REAL_ONLY})
    target_include_directories(${name} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
    target_link_libraries(${name} PRIVATE fathom_cuda_flags PUBLIC ${ARG_LINK} ${ARG_REAL_LINK} CUDA::cudart_static)
    target_link_libraries(fathom_cuda INTERFACE $<LINK_LIBRARY:WHOLE_ARCHIVE,${name}> ${ARG_LINK})
  endif()
endfunction()
