# Flags that every target shares, and the two kinds of target there are: a folder's library and a folder's tests.

# x86-64-v3 (AVX2 with FMA) or wider; the bits of a run do not depend on it.
set(FATHOM_ARCH x86-64-v3 CACHE STRING "-march of every target")

option(FATHOM_FUZZ "Build the fuzz targets with libFuzzer (clang)" OFF)

add_library(fathom_flags INTERFACE)
# One arithmetic everywhere (docs/numerics.md): no contraction, no fast-math; FMA only where it is written out.
target_compile_options(fathom_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-march=${FATHOM_ARCH} -ffp-contract=off -fno-math-errno -fno-trapping-math
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Werror>)
target_include_directories(fathom_flags INTERFACE ${PROJECT_SOURCE_DIR})
if(FATHOM_SANITIZER)
  target_compile_options(fathom_flags INTERFACE
    -fsanitize=${FATHOM_SANITIZER} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(fathom_flags INTERFACE -fsanitize=${FATHOM_SANITIZER})
endif()
if(FATHOM_FUZZ)
  target_compile_options(fathom_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# fathom_library(NAME SOURCES a.cc ... LINK fathom_core ...): the static library of one folder.
function(fathom_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC fathom_flags ${ARG_LINK})
endfunction()

# fathom_tests(NAME SOURCES a_test.cc ... LINK fathom_core ... [PROPERTIES RUN_SERIAL TRUE ...]): one program of Catch2 cases, each
# of them a ctest with these properties. Names of cases hold no semicolon: CMake would take what stands around it for two.
function(fathom_tests name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PROPERTIES" ${ARGN})
  add_executable(${name} ${ARG_SOURCES} $<TARGET_OBJECTS:fathom_catch_main>)
  target_link_libraries(${name} PRIVATE fathom_flags fathom_test_support ${ARG_LINK})
  catch_discover_tests(${name} TEST_PREFIX "${name}: " DISCOVERY_MODE POST_BUILD
    PROPERTIES TIMEOUT 300 FAIL_REGULAR_EXPRESSION "No test cases matched" ${ARG_PROPERTIES})
endfunction()
